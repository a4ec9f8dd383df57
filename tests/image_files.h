// JPEG and PNG files for tests, written by the libraries' encoders.
#pragma once

#include <cstdio>  // jpeglib.h needs it before
// clang-format off
#include <jpeglib.h>
// clang-format on
#include <png.h>

#include <cstdlib>

#include "engine/data/image.h"
#include "tests/temp_folder.h"

namespace ringfort::test {

struct JpegOptions {
  int components = 3;  // 1: grey, 3: RGB, 4: CMYK
  int quality = 90;
  int h_sampling = 2, v_sampling = 2;  // of luma; 2 x 2: chroma is halved both ways
  bool progressive = false;
  bool adobe = true;  // of CMYK: whether the marker is there that says that ink is inverted
};

// pixels (height, width, components).
inline Bytes jpeg_file(int height, int width, const Bytes& pixels,
                       const JpegOptions& options = {}) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &memory, &size);
  info.image_height = static_cast<JDIMENSION>(height);
  info.image_width = static_cast<JDIMENSION>(width);
  info.input_components = options.components;
  info.in_color_space = options.components == 1   ? JCS_GRAYSCALE
                        : options.components == 3 ? JCS_RGB
                                                  : JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, options.quality, TRUE);
  if (options.components == 3) {
    info.comp_info[0].h_samp_factor = options.h_sampling;
    info.comp_info[0].v_samp_factor = options.v_sampling;
  }
  if (options.components == 4) info.write_Adobe_marker = options.adobe ? TRUE : FALSE;
  if (options.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  const size_t row_bytes = size_t(width) * size_t(options.components);
  for (size_t y = 0; y < size_t(height); ++y) {
    JSAMPROW row = const_cast<uint8_t*>(pixels.data() + y * row_bytes);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  Bytes file(memory, memory + size);
  jpeg_destroy_compress(&info);
  std::free(memory);
  return file;
}

struct PngOptions {
  int color_type = PNG_COLOR_TYPE_RGB;
  int bits = 8;
  bool interlaced = false;
};

// rows (height, bytes per row as the color type and the bits say). A palette maps i to (i, 2i, 3i).
inline Bytes png_file(int height, int width, const Bytes& rows, const PngOptions& options = {}) {
  Bytes file;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &file,
      [](png_structp p, png_bytep from, size_t count) {
        auto& out = *static_cast<Bytes*>(png_get_io_ptr(p));
        out.insert(out.end(), from, from + count);
      },
      [](png_structp) {});
  png_set_IHDR(png, info, png_uint_32(width), png_uint_32(height), options.bits, options.color_type,
               options.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (options.color_type == PNG_COLOR_TYPE_PALETTE) {
    std::vector<png_color> palette;
    for (int i = 0; i < 1 << options.bits; ++i)
      palette.push_back({png_byte(i), png_byte(2 * i), png_byte(3 * i)});
    png_set_PLTE(png, info, palette.data(), int(palette.size()));
  }
  png_write_info(png, info);
  const size_t row_bytes = png_get_rowbytes(png, info);
  REQUIRE(rows.size() == row_bytes * size_t(height));
  std::vector<png_bytep> pointers;
  for (size_t y = 0; y < size_t(height); ++y)
    pointers.push_back(const_cast<png_bytep>(rows.data() + y * row_bytes));
  png_write_image(png, pointers.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return file;
}

// A smooth picture with some grain: what codecs are made for. (height, width, channels)
inline Bytes picture(int height, int width, int channels, int variant = 0) {
  Bytes pixels;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c) {
        const int wave = (x * (3 + c) + y * (5 - c) + 40 * variant) % 256;
        pixels.push_back(uint8_t(std::abs(wave - 128) + (x * y * 7 + c * 13) % 31 + 20 * c));
      }
  return pixels;
}

}  // namespace ringfort::test
