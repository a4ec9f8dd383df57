// Small images for the report: PNG, and base64 to put them into a page. Only what the report needs:
// 8 bits per sample, grey or RGB, no palette, no interlacing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ringfort {

// `pixels` is (height, width, channels) with 1 (grey) or 3 (RGB) channels.
std::string encode_png(int height, int width, int channels, std::span<const uint8_t> pixels);

// The same of pixels in [0, 1]; what lies outside is clipped, NaN is black.
std::string encode_png(int height, int width, int channels, std::span<const float> pixels);

std::string base64(std::string_view bytes);

// "data:image/png;base64,..."
std::string png_data_uri(std::string_view png);

}  // namespace ringfort
