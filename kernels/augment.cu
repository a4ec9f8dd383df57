#include "kernels/augment.h"

#include "kernels/rows.h"

namespace ringfort {
namespace {

// One image row per call.
struct CropRow {
  float* x;
  const uint8_t* bytes;
  const int64_t* samples;
  int64_t height, width, channels;
  PadCropFlip augment;
  ImageOrder order;

  HD void operator()(int64_t row) const {
    const int64_t n = row / height, h = row % height;
    const PadCropFlip::Choice choice = augment.choose(samples[n], height, width);
    const bool row_cut = h >= choice.top && h < choice.top + augment.cutout;
    const int64_t from_h = h + choice.dy;
    const int64_t image = order == ImageOrder::kDataset ? samples[n] : n;
    float* to = x + row * width * channels;
    for (int64_t w = 0; w < width; ++w) {
      const int64_t from_w = (choice.mirrored ? width - 1 - w : w) + choice.dx;
      const bool cut = row_cut && w >= choice.left && w < choice.left + augment.cutout;
      const bool inside = from_h >= 0 && from_h < height && from_w >= 0 && from_w < width && !cut;
      for (int64_t c = 0; c < channels; ++c)
        to[w * channels + c] =
            inside ? static_cast<float>(
                         bytes[((image * height + from_h) * width + from_w) * channels + c]) /
                         255.0f
                   : 0.0f;
    }
  }
};

}  // namespace

void pad_crop_flip(Exec& exec, View x, View bytes, const int64_t* samples,
                   const PadCropFlip& augment, ImageOrder order) {
  Shape images = bytes.shape;
  if (order == ImageOrder::kDataset) images.n = x.shape.n;
  require(x.dtype == Dtype::kFloat32 && bytes.dtype == Dtype::kUint8 && x.shape == images,
          "pad_crop_flip: needs uint8 {} and float32 views of one shape", to_string(bytes.shape));
  require(augment.pad >= 0 && augment.pad < 1024, "pad_crop_flip: pad must be in [0, 1024), got {}",
          augment.pad);
  require(augment.cutout >= 0, "pad_crop_flip: the square's side is {}; it must not be negative",
          augment.cutout);
  const Shape s = x.shape;
  for_each(
      exec, s.n * s.h, s.w * s.c,
      CropRow{x.as<float>(), bytes.as<const uint8_t>(), samples, s.h, s.w, s.c, augment, order});
}

}  // namespace ringfort
