#include "tools/png.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/error.h"

namespace ringfort {
namespace {

void append_u32(std::string& out, uint32_t value) {  // big-endian, as PNG has it
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(value >> shift & 0xFF);
}

// Length, type, data, and the CRC of type and data.
void append_chunk(std::string& out, std::string_view type, std::string_view data) {
  append_u32(out, static_cast<uint32_t>(data.size()));
  const size_t begin = out.size();
  out += type;
  out += data;
  const auto* bytes = reinterpret_cast<const Bytef*>(out.data() + begin);
  append_u32(out, static_cast<uint32_t>(::crc32(0, bytes, static_cast<uInt>(out.size() - begin))));
}

std::string deflated(const std::string& raw) {
  uLongf size = ::compressBound(raw.size());
  std::string out(size, '\0');
  const int status =
      ::compress2(reinterpret_cast<Bytef*>(out.data()), &size,
                  reinterpret_cast<const Bytef*>(raw.data()), raw.size(), Z_BEST_COMPRESSION);
  require(status == Z_OK, "zlib cannot compress an image (error {})", status);
  out.resize(size);
  return out;
}

}  // namespace

std::string encode_png(int height, int width, int channels, std::span<const uint8_t> pixels) {
  constexpr int kMaxSide = 1 << 14;
  require(height > 0 && width > 0 && height <= kMaxSide && width <= kMaxSide &&
              (channels == 1 || channels == 3),
          "an image of {} x {} x {} cannot be written as PNG", height, width, channels);
  const size_t row = static_cast<size_t>(width) * static_cast<size_t>(channels);
  require(pixels.size() == static_cast<size_t>(height) * row,
          "an image of {} x {} x {} cannot have {} values", height, width, channels, pixels.size());
  std::string raw;
  for (size_t y = 0; y < static_cast<size_t>(height); ++y) {
    raw += '\0';  // row filter: none
    raw.append(reinterpret_cast<const char*>(pixels.data() + y * row), row);
  }
  std::string header;
  append_u32(header, static_cast<uint32_t>(width));
  append_u32(header, static_cast<uint32_t>(height));
  const char color_type = channels == 1 ? 0 : 2;
  header += {8, color_type, 0, 0, 0};  // bits; then compression, filter, interlace

  std::string png = "\x89PNG\r\n\x1a\n";
  append_chunk(png, "IHDR", header);
  append_chunk(png, "IDAT", deflated(raw));
  append_chunk(png, "IEND", "");
  return png;
}

std::string encode_png(int height, int width, int channels, std::span<const float> pixels) {
  std::vector<uint8_t> bytes(pixels.size());
  std::transform(pixels.begin(), pixels.end(), bytes.begin(), [](float x) {
    const float clipped = x > 0 ? std::min(x, 1.0f) : 0.0f;  // false for NaN
    return static_cast<uint8_t>(std::lround(255 * clipped));
  });
  return encode_png(height, width, channels, std::span<const uint8_t>(bytes));
}

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (j < count ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j) out += j <= count ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

std::string png_data_uri(std::string_view png) { return "data:image/png;base64," + base64(png); }

}  // namespace ringfort
