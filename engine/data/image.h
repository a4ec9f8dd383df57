// From the bytes of a JPEG or PNG file to pixels (H, W, 3) of uint8. Bytes are not trusted: sizes
// are checked before memory is taken, and whatever a codec complains of is an Error that names the
// image. Only what is asked for is decoded: a region, and of a JPEG the picture at 1/2, 1/4 or 1/8
// of its size, which its DCT gives for less work than all of its pixels. Choosing crops and
// resampling are not done here (image_transform.h, resample.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace ringfort {

struct ImageSize {
  int64_t height = 0, width = 0;
  int64_t pixels() const { return height * width; }
  friend bool operator==(const ImageSize&, const ImageSize&) = default;
};

// Pixels [top, top + height) x [left, left + width).
struct Region {
  int64_t top = 0, left = 0, height = 0, width = 0;
  int64_t bottom() const { return top + height; }
  int64_t right() const { return left + width; }
  friend bool operator==(const Region&, const Region&) = default;
};

// A part of a picture.
struct Image {
  Region region;                // which part
  std::vector<uint8_t> pixels;  // (region.height, region.width, 3)
  const uint8_t* row(int64_t y) const {
    return pixels.data() + (y - region.top) * region.width * 3;
  }
};

// What is refused as too large: libjpeg's limit of a side, and 400 MB of pixels.
inline constexpr int64_t kMaxImageSide = 65500;
inline constexpr int64_t kMaxImagePixels = int64_t{1} << 27;

// How a format is decoded: internal to engine/data.
class ImageDecoder {
 public:
  virtual ~ImageDecoder() = default;
  virtual bool reduces() const = 0;
  virtual void read(const Region& region, int reduction, Image& image) = 0;
  ImageSize size;
};

class ImageReader {
 public:
  // Reads the header. `bytes` must outlive the reader; `name` is for the sentences of errors.
  // Errors: neither JPEG nor PNG; a corrupt header; a picture too large.
  ImageReader(std::span<const uint8_t> bytes, std::string name);
  ImageReader(const ImageReader&) = delete;
  ImageReader& operator=(const ImageReader&) = delete;

  ImageSize size() const { return decoder_->size; }
  // Whether read() takes reductions other than 1.
  bool reduces() const { return decoder_->reduces(); }

  // Decodes at least `region` (image.region says what) of the picture reduced by 1, 2, 4 or 8,
  // which has ceil(size / reduction) pixels a side; once per reader. The pixels do not depend on
  // the region. Grey becomes RGB, CMYK is converted as (255 - C)(255 - K) / 255, transparency is
  // dropped, of 16 bits the upper 8 stay. Errors: truncated or corrupt data as far as it is read.
  void read(const Region& region, int reduction, Image& image);
  void read(Image& image) { read({0, 0, size().height, size().width}, 1, image); }

 private:
  std::string name_;
  std::unique_ptr<ImageDecoder> decoder_;
  bool done_ = false;
};

// The formats, internal to engine/data. `bytes` and `name` outlive the decoder.
std::unique_ptr<ImageDecoder> open_jpeg(std::span<const uint8_t> bytes, const std::string& name);
std::unique_ptr<ImageDecoder> open_png(std::span<const uint8_t> bytes, const std::string& name);

// Error where a picture of this size is too large or empty.
void require_image_size(const ImageSize& size, const std::string& name);

// Error where a file of `present` bytes is too short for a picture of this size, of which the best
// of compressions leaves `least`: before memory for its pixels is taken.
void require_image_bytes(const ImageSize& size, uint64_t least, uint64_t present,
                         const std::string& name);

}  // namespace ringfort
