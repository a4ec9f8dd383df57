#include "engine/data/image.h"

#include <algorithm>
#include <array>

#include "kernels/error.h"

namespace ringfort {
namespace {

bool starts_with(std::span<const uint8_t> bytes, std::span<const uint8_t> magic) {
  return bytes.size() >= magic.size() && std::equal(magic.begin(), magic.end(), bytes.begin());
}

std::unique_ptr<ImageDecoder> open_image(std::span<const uint8_t> bytes, const std::string& name) {
  constexpr std::array<uint8_t, 3> kJpeg{0xFF, 0xD8, 0xFF};
  constexpr std::array<uint8_t, 8> kPng{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  require(!bytes.empty(), "image '{}' is empty", name);
  if (starts_with(bytes, kJpeg)) return open_jpeg(bytes, name);
  if (starts_with(bytes, kPng)) return open_png(bytes, name);
  fail("image '{}' is neither a JPEG nor a PNG by its first bytes; convert or remove it", name);
}

}  // namespace

void require_image_size(const ImageSize& size, const std::string& name) {
  require(size.height >= 1 && size.width >= 1, "image '{}' has {} x {} pixels; remove it", name,
          size.height, size.width);
  require(size.height <= kMaxImageSide && size.width <= kMaxImageSide &&
              size.pixels() <= kMaxImagePixels,
          "image '{}' has {} x {} pixels, more than the {} a side and {} altogether that are read; "
          "make it smaller",
          name, size.height, size.width, kMaxImageSide, kMaxImagePixels);
}

void require_image_bytes(const ImageSize& size, uint64_t least, uint64_t present,
                         const std::string& name) {
  require(least <= present,
          "image '{}' is truncated: its {} bytes cannot hold {} x {} pixels; copy it again or "
          "remove it",
          name, present, size.height, size.width);
}

ImageReader::ImageReader(std::span<const uint8_t> bytes, std::string name)
    : name_(std::move(name)), decoder_(open_image(bytes, name_)) {}

void ImageReader::read(const Region& region, int reduction, Image& image) {
  require(!done_, "image '{}' was read before; open it again", name_);
  done_ = true;
  require(reduction == 1 || (reduces() && (reduction == 2 || reduction == 4 || reduction == 8)),
          "image '{}' cannot be reduced by {}", name_, reduction);
  const int64_t height = (size().height + reduction - 1) / reduction;
  const int64_t width = (size().width + reduction - 1) / reduction;
  require(region.top >= 0 && region.left >= 0 && region.height >= 1 && region.width >= 1 &&
              region.height <= height - region.top && region.width <= width - region.left,
          "image '{}' has {} x {} pixels; {} x {} from row {} and column {} on were asked for",
          name_, height, width, region.height, region.width, region.top, region.left);
  decoder_->read(region, reduction, image);
}

}  // namespace ringfort
