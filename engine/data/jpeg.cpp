// JPEG by libjpeg-turbo, through libjpeg's interface: unlike TurboJPEG's it decodes some rows and
// columns only.
#include <cstdio>  // jpeglib.h needs it before
// clang-format off
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <algorithm>
#include <cstring>

#include "engine/data/codec_guard.h"
#include "engine/data/image.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

// Progressive files have about ten scans; every one more costs a pass over the whole picture.
constexpr int kMaxScans = 100;

// Upsampled chroma at the border of a region is taken from within it: pixels that far inside are
// those of the whole picture.
constexpr int64_t kMargin = 2;

class JpegDecoder final : public ImageDecoder {
 public:
  JpegDecoder(std::span<const uint8_t> bytes, const std::string& name) : name_(name) {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = on_error;
    errors_.emit_message = on_message;
    info_.client_data = &guard_;
    progress_.progress_monitor = on_progress;
    check(guard_.run([&] {
      jpeg_create_decompress(&info_);
      info_.progress = &progress_;
      jpeg_mem_src(&info_, bytes.data(), bytes.size());
      jpeg_read_header(&info_, TRUE);
    }));
    size = {info_.image_height, info_.image_width};
    try {
      require_image_size(size, name_);
      // A Huffman code has at least one bit, and every block of 8 x 8 pixels at least one code.
      if (info_.arith_code == 0)
        require_image_bytes(size, static_cast<uint64_t>(size.pixels()) / 512, bytes.size(), name_);
      const J_COLOR_SPACE space = info_.jpeg_color_space;
      cmyk_ = space == JCS_CMYK || space == JCS_YCCK;
      require(cmyk_ || space == JCS_GRAYSCALE || space == JCS_RGB || space == JCS_YCbCr,
              "image '{}' has {} colour components of a meaning unknown; save it as RGB", name_,
              info_.num_components);
    } catch (...) {
      jpeg_destroy_decompress(&info_);
      throw;
    }
  }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() override { jpeg_destroy_decompress(&info_); }

  bool reduces() const override { return true; }

  void read(const Region& region, int reduction, Image& image) override {
    JDIMENSION left = 0, width = 0;
    check(guard_.run([&] {
      info_.out_color_space = cmyk_ ? JCS_CMYK : JCS_RGB;
      info_.scale_num = 1;
      info_.scale_denom = static_cast<unsigned>(reduction);
      jpeg_start_decompress(&info_);
      left = static_cast<JDIMENSION>(std::max<int64_t>(region.left - kMargin, 0));
      width =
          static_cast<JDIMENSION>(std::min<int64_t>(region.right() + kMargin, info_.output_width)) -
          left;
      if (width < info_.output_width) jpeg_crop_scanline(&info_, &left, &width);
    }));
    image.region = {region.top, left, region.height, info_.output_width};
    const size_t row_bytes = 3 * size_t{info_.output_width};
    image.pixels.resize(static_cast<size_t>(region.height) * row_bytes);
    cmyk_row_.resize(cmyk_ ? 4 * size_t{info_.output_width} : 0);
    check(guard_.run([&] {
      if (region.top > 0) jpeg_skip_scanlines(&info_, static_cast<JDIMENSION>(region.top));
      uint8_t* pixels = image.pixels.data();
      for (int64_t y = 0; y < region.height; ++y, pixels += row_bytes) {
        JSAMPROW row = cmyk_ ? cmyk_row_.data() : pixels;
        jpeg_read_scanlines(&info_, &row, 1);
        if (cmyk_) to_rgb(pixels);
      }
    }));
  }

 private:
  static CodecGuard& guard_of(j_common_ptr info) {
    return *static_cast<CodecGuard*>(info->client_data);
  }
  [[noreturn]] static void on_error(j_common_ptr info) {
    static_assert(JMSG_LENGTH_MAX <= 256);
    CodecGuard& guard = guard_of(info);
    info->err->format_message(info, guard.message.data());
    std::longjmp(guard.back, 1);
  }
  // What libjpeg only warns of is data that it made up: the picture is broken.
  static void on_message(j_common_ptr info, int level) {
    if (level < 0 && info->err->msg_code != JWRN_JFIF_MAJOR) on_error(info);
  }
  static void on_progress(j_common_ptr info) {
    if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
    CodecGuard& guard = guard_of(info);
    std::snprintf(guard.message.data(), guard.message.size(), "it has more than %d scans",
                  kMaxScans);
    std::longjmp(guard.back, 1);
  }

  // Ends with an Error where the codec gave up. The destructor does not run for a constructor that
  // throws.
  void check(bool went_well) {
    if (went_well) return;
    jpeg_destroy_decompress(&info_);
    fail("image '{}' is not an intact JPEG: {}; copy it again or remove it", name_,
         guard_.message.data());
  }

  // Adobe's programs store ink inverted, and mark their files.
  void to_rgb(uint8_t* pixel) const {
    const uint8_t invert = info_.saw_Adobe_marker ? 0 : 255;
    for (size_t x = 0; x < info_.output_width; ++x, pixel += 3) {
      const uint8_t* ink = cmyk_row_.data() + 4 * x;
      const int key = ink[3] ^ invert;
      for (int c = 0; c < 3; ++c)
        pixel[c] = static_cast<uint8_t>(((ink[c] ^ invert) * key + 127) / 255);
    }
  }

  const std::string& name_;
  CodecGuard guard_;
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct info_{};
  bool cmyk_ = false;
  std::vector<uint8_t> cmyk_row_;
};

}  // namespace

std::unique_ptr<ImageDecoder> open_jpeg(std::span<const uint8_t> bytes, const std::string& name) {
  return std::make_unique<JpegDecoder>(bytes, name);
}

}  // namespace ringfort
