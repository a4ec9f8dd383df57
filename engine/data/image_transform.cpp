#include "engine/data/image_transform.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr double kMinArea = 0.08, kMinRatio = 3.0 / 4, kMaxRatio = 4.0 / 3;
constexpr uint32_t kTries = 10;         // a block of random numbers each; the next is the flip's
constexpr double kCentreShare = 0.875;  // of the shorter side: 224 / 256

// In (0, 1).
double uniform(uint32_t word) { return (static_cast<double>(word) + 0.5) / 4294967296.0; }

// Uniform in [0, bound); the bias of 2^-32 per position is far below what any training could see.
int64_t position(uint32_t word, int64_t bound) {
  return static_cast<int64_t>(uint64_t{word} * static_cast<uint64_t>(bound) >> 32);
}

int64_t rounded(double value) { return static_cast<int64_t>(std::nearbyint(value)); }

Region central_region(const ImageSize& size) {
  const double ratio = static_cast<double>(size.width) / static_cast<double>(size.height);
  Region region{0, 0, size.height, size.width};
  if (ratio < kMinRatio) region.height = rounded(static_cast<double>(size.width) / kMinRatio);
  if (ratio > kMaxRatio) region.width = rounded(static_cast<double>(size.height) * kMaxRatio);
  region.top = (size.height - region.height) / 2;
  region.left = (size.width - region.width) / 2;
  return region;
}

// The largest reduction after which the region still has `size` pixels a side.
int reduction_for(const Region& region, int64_t size) {
  for (const int reduction : {8, 4, 2})
    if (std::min(region.height, region.width) >= reduction * size) return reduction;
  return 1;
}

// Input pixels [begin, begin + length) of `pixels`, all at 1 / reduction, become `out` ones.
ResampleAxis crop_axis(int64_t begin, int64_t length, int reduction, int64_t out) {
  ResampleAxis axis;
  axis.begin = static_cast<double>(begin) / reduction;
  axis.end = static_cast<double>(begin + length) / reduction;
  axis.low = begin / reduction;
  axis.high = (begin + length + reduction - 1) / reduction;
  axis.out = axis.count = out;
  return axis;
}

// All of an axis becomes `out` pixels, of which the central `count` are wanted.
ResampleAxis centre_axis(int64_t pixels, int64_t out, int64_t count) {
  return {0,    static_cast<double>(pixels),
          0,    pixels,
          out,  rounded(static_cast<double>(out - count) / 2),
          count};
}

}  // namespace

RandomCrop random_resized_crop(const ImageSize& size, const RandomKey& key, int64_t sample) {
  const auto of = static_cast<uint64_t>(sample);
  RandomCrop crop;
  crop.mirrored = (key.words(of, kTries).word[0] & 1u) != 0;
  const double low = std::log(kMinRatio), high = std::log(kMaxRatio);
  for (uint32_t attempt = 0; attempt < kTries; ++attempt) {
    const Philox4 random = key.words(of, attempt);
    const double area =
        static_cast<double>(size.pixels()) * (kMinArea + (1 - kMinArea) * uniform(random.word[0]));
    const double ratio = std::exp(low + (high - low) * uniform(random.word[1]));
    const int64_t width = rounded(std::sqrt(area * ratio));
    const int64_t height = rounded(std::sqrt(area / ratio));
    if (width < 1 || width > size.width || height < 1 || height > size.height) continue;
    crop.region = {position(random.word[2], size.height - height + 1),
                   position(random.word[3], size.width - width + 1), height, width};
    return crop;
  }
  crop.region = central_region(size);
  return crop;
}

void ImagePipeline::run(std::span<const uint8_t> bytes, const std::string& name,
                        const ImageTransform& transform, int64_t sample, uint8_t* out) {
  ImageReader reader(bytes, name);
  const ImageSize size = reader.size();
  int reduction = 1;
  bool mirrored = false;
  if (transform.random_resized_crop) {
    const RandomKey key{transform.seed, Purpose::kImageCrop, transform.epoch};
    const RandomCrop crop = random_resized_crop(size, key, sample);
    mirrored = crop.mirrored;
    if (reader.reduces()) reduction = reduction_for(crop.region, transform.size);
    bilinear_weights(crop_axis(crop.region.top, crop.region.height, reduction, transform.size),
                     rows_);
    bilinear_weights(crop_axis(crop.region.left, crop.region.width, reduction, transform.size),
                     columns_);
  } else {
    const int64_t shorter = std::min(size.height, size.width);
    const int64_t resized = rounded(transform.size / kCentreShare);
    // Shrinks 65,500 pixels to 256 or stretches one to as many: no product overflows.
    bilinear_weights(centre_axis(size.height, resized * size.height / shorter, transform.size),
                     rows_);
    bilinear_weights(centre_axis(size.width, resized * size.width / shorter, transform.size),
                     columns_);
  }
  reader.read(
      {rows_.low(), columns_.low(), rows_.high() - rows_.low(), columns_.high() - columns_.low()},
      reduction, image_);
  resample(image_, rows_, columns_, mirrored, out, scratch_);
}

}  // namespace ringfort
