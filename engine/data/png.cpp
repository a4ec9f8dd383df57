// PNG by libpng, row by row where the file is not interlaced.
#include <png.h>

#include <cstdio>
#include <cstring>

#include "engine/data/codec_guard.h"
#include "engine/data/image.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr uint64_t kMostOfDeflate = 1032;  // times as many bytes as it was given: zlib's manual
constexpr png_alloc_size_t kMaxChunk = 8u << 20;  // of texts and profiles, which nobody reads

class PngDecoder final : public ImageDecoder {
 public:
  PngDecoder(std::span<const uint8_t> bytes, const std::string& name) : name_(name), rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &guard_, on_error, on_warning);
    require(png_ != nullptr, "libpng has no memory to read '{}'", name_);
    check(guard_.run([&] {
      info_ = png_create_info_struct(png_);
      if (info_ == nullptr) png_error(png_, "no memory");
      png_set_read_fn(png_, &rest_, on_read);
      // This many and no more: what is beyond is refused with a sentence of ours.
      png_set_user_limits(png_, 0x7fffffff, 0x7fffffff);
      png_set_chunk_malloc_max(png_, kMaxChunk);
      png_read_info(png_, info_);
    }));
    size = {png_get_image_height(png_, info_), png_get_image_width(png_, info_)};
    try {
      require_image_size(size, name_);
      const uint64_t row = png_get_rowbytes(png_, info_);
      require_image_bytes(size, row * static_cast<uint64_t>(size.height) / kMostOfDeflate,
                          bytes.size(), name_);
    } catch (...) {
      destroy();
      throw;
    }
  }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;
  ~PngDecoder() override { destroy(); }

  bool reduces() const override { return false; }

  void read(const Region& region, int /*reduction*/, Image& image) override {
    int passes = 1;
    size_t row_bytes = 0;
    check(guard_.run([&] {
      png_set_palette_to_rgb(png_);
      png_set_expand_gray_1_2_4_to_8(png_);
      png_set_strip_16(png_);
      png_set_strip_alpha(png_);
      png_set_gray_to_rgb(png_);
      passes = png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
      row_bytes = png_get_rowbytes(png_, info_);
    }));
    require(row_bytes == 3 * static_cast<size_t>(size.width),
            "image '{}' is a PNG of an unknown pixel format; save it as RGB", name_);
    const bool interlaced = passes > 1;
    image.region = interlaced ? Region{0, 0, size.height, size.width}
                              : Region{region.top, 0, region.height, size.width};
    image.pixels.resize(static_cast<size_t>(image.region.height) * row_bytes);
    check(guard_.run([&] {
      for (int pass = 0; pass < passes; ++pass) {
        for (int64_t y = 0; y < image.region.top; ++y)
          png_read_row(png_, image.pixels.data(), nullptr);
        for (int64_t y = 0; y < image.region.height; ++y)
          png_read_row(png_, image.pixels.data() + static_cast<size_t>(y) * row_bytes, nullptr);
      }
    }));
  }

 private:
  [[noreturn]] static void on_error(png_structp png, png_const_charp message) {
    auto& guard = *static_cast<CodecGuard*>(png_get_error_ptr(png));
    std::snprintf(guard.message.data(), guard.message.size(), "%s", message);
    std::longjmp(guard.back, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}  // of things that change no pixel
  static void on_read(png_structp png, png_bytep to, size_t count) {
    auto& rest = *static_cast<std::span<const uint8_t>*>(png_get_io_ptr(png));
    if (count > rest.size()) png_error(png, "its data ends early");
    std::memcpy(to, rest.data(), count);
    rest = rest.subspan(count);
  }

  void destroy() { png_destroy_read_struct(&png_, &info_, nullptr); }
  void check(bool went_well) {
    if (went_well) return;
    destroy();  // the destructor does not run for a constructor that throws
    fail("image '{}' is not an intact PNG: {}; copy it again or remove it", name_,
         guard_.message.data());
  }

  const std::string& name_;
  std::span<const uint8_t> rest_;
  CodecGuard guard_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

std::unique_ptr<ImageDecoder> open_png(std::span<const uint8_t> bytes, const std::string& name) {
  return std::make_unique<PngDecoder>(bytes, name);
}

}  // namespace ringfort
