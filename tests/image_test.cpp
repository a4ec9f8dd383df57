// Decoding of JPEG and PNG: every pixel format, regions, reductions, and files broken in every way.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "engine/data/image.h"
#include "kernels/philox.h"
#include "tests/image_files.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

Image decode(const Bytes& file) {
  ImageReader reader(file, "picture");
  Image image;
  reader.read(image);
  return image;
}

Image decode(const Bytes& file, const Region& region, int reduction = 1) {
  ImageReader reader(file, "picture");
  Image image;
  reader.read(region, reduction, image);
  return image;
}

std::string decode_error(const Bytes& file) {
  return error_of([&] { decode(file); });
}

// The pixels of `part` that lie in `region` and differ from those of `whole`; -1: not all are
// there.
int64_t differing(const Image& part, const Region& region, const Image& whole) {
  const Region& there = part.region;
  if (there.top > region.top || there.left > region.left || there.bottom() < region.bottom() ||
      there.right() < region.right() ||
      part.pixels.size() != size_t(there.height * there.width * 3))
    return -1;
  int64_t count = 0;
  for (int64_t y = region.top; y < region.bottom(); ++y)
    for (int64_t i = 3 * region.left; i < 3 * region.right(); ++i)
      count += part.row(y)[i - 3 * there.left] != whole.row(y)[i - 3 * whole.region.left];
  return count;
}

double mean_difference(const Bytes& a, const Bytes& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::abs(a[i] - b[i]);
  return sum / double(a.size());
}

}  // namespace

TEST_CASE("a JPEG becomes the pixels that it was made of, but for its compression", "[image]") {
  const Bytes smooth = [] {
    Bytes pixels;
    for (int y = 0; y < 37; ++y)
      for (int x = 0; x < 53; ++x)
        for (const int value : {2 * x + y, 200 - 3 * y, 50 + x}) pixels.push_back(uint8_t(value));
    return pixels;
  }();
  for (const bool progressive : {false, true}) {
    const Image image =
        decode(jpeg_file(37, 53, smooth, {.quality = 98, .progressive = progressive}));
    CHECK(image.region == Region{0, 0, 37, 53});
    CHECK(mean_difference(image.pixels, smooth) < 1.5);
  }
  CHECK(ImageReader(jpeg_file(37, 53, smooth), "picture").size() == ImageSize{37, 53});
}

TEST_CASE("grey and CMYK JPEGs become RGB", "[image]") {
  const Image grey = decode(jpeg_file(9, 11, picture(9, 11, 1), {.components = 1, .quality = 100}));
  for (size_t i = 0; i < grey.pixels.size(); i += 3) {
    CHECK(std::abs(grey.pixels[i] - picture(9, 11, 1)[i / 3]) <= 2);
    CHECK((grey.pixels[i + 1] == grey.pixels[i] && grey.pixels[i + 2] == grey.pixels[i]));
  }
  // C, M, Y, K of one colour, as numbers where 255 is full ink.
  const std::array<int, 4> ink{200, 100, 0, 51};
  for (const bool adobe : {true, false}) {
    Bytes pixels;
    for (int i = 0; i < 16 * 16; ++i)
      for (const int value : ink) pixels.push_back(uint8_t(adobe ? 255 - value : value));
    const Image image =
        decode(jpeg_file(16, 16, pixels, {.components = 4, .quality = 100, .adobe = adobe}));
    for (int c = 0; c < 3; ++c) {
      const double expected = (255.0 - ink[size_t(c)]) * (255.0 - ink[3]) / 255;
      CHECK(std::abs(image.pixels[size_t(100 * 3 + c)] - expected) <= 2);
    }
  }
}

TEST_CASE("a region of a JPEG has the pixels of the whole picture", "[image]") {
  const int height = 101, width = 150;
  for (const auto& [h, v] : {std::pair{1, 1}, {2, 1}, {2, 2}, {1, 2}, {4, 1}})
    for (const bool progressive : {false, true}) {
      const Bytes file = jpeg_file(height, width, picture(height, width, 3),
                                   {.h_sampling = h, .v_sampling = v, .progressive = progressive});
      for (const int reduction : {1, 2, 4, 8}) {
        const int64_t rows = (height + reduction - 1) / reduction;
        const int64_t columns = (width + reduction - 1) / reduction;
        const Image whole = decode(file, {0, 0, rows, columns}, reduction);
        CHECK(whole.region == Region{0, 0, rows, columns});
        for (uint64_t n = 0; n < 25; ++n) {
          const Philox4 random = RandomKey{5, Purpose::kTest, 0}.words(n, uint32_t(reduction));
          Region region;
          region.top = random.word[0] % rows;
          region.left = random.word[1] % columns;
          region.height = 1 + random.word[2] % (rows - region.top);
          region.width = 1 + random.word[3] % (columns - region.left);
          INFO(h << " x " << v << " / " << reduction << ": " << region.top << " " << region.left
                 << " " << region.height << " " << region.width);
          CHECK(differing(decode(file, region, reduction), region, whole) == 0);
        }
      }
    }
}

TEST_CASE("a reduced JPEG is the mean of its blocks of pixels", "[image]") {
  const Bytes file = jpeg_file(96, 128, picture(96, 128, 3), {.h_sampling = 1, .v_sampling = 1});
  const Image whole = decode(file);
  for (const int reduction : {2, 4, 8}) {
    const Image image = decode(file, {0, 0, 96 / reduction, 128 / reduction}, reduction);
    double sum = 0;
    for (int64_t y = 0; y < image.region.height; ++y)
      for (int64_t i = 0; i < 3 * image.region.width; ++i) {
        double mean = 0;
        for (int dy = 0; dy < reduction; ++dy)
          for (int dx = 0; dx < reduction; ++dx)
            mean += whole.row(y * reduction + dy)[(i / 3 * reduction + dx) * 3 + i % 3];
        sum += std::abs(image.row(y)[i] - mean / reduction / reduction);
      }
    CHECK(sum / double(image.pixels.size()) < (reduction == 8 ? 1 : 6));
  }
}

TEST_CASE("PNGs of every pixel format become RGB", "[image]") {
  const int height = 21, width = 34;
  for (const bool interlaced : {false, true}) {
    const Bytes rgb = picture(height, width, 3);
    const Bytes file = png_file(height, width, rgb, {.interlaced = interlaced});
    const Image whole = decode(file);
    CHECK(whole.pixels == rgb);
    for (const Region region : {Region{3, 5, 7, 9}, Region{20, 33, 1, 1}, Region{0, 0, 21, 34}})
      CHECK(differing(decode(file, region), region, whole) == 0);

    const auto values = [&](int color_type, int bits, int channels) {
      return png_file(height, width, picture(height, width, channels * bits / 8),
                      {color_type, bits, interlaced});
    };
    const auto check = [&](const Image& image, auto expected) {
      size_t wrong = 0;
      for (size_t i = 0; i < image.pixels.size(); ++i)
        wrong += image.pixels[i] != expected(i / 3, i % 3);
      CHECK(wrong == 0);
    };
    const Bytes one = picture(height, width, 1), two = picture(height, width, 2),
                four = picture(height, width, 4), six = picture(height, width, 6);
    check(decode(values(PNG_COLOR_TYPE_GRAY, 8, 1)), [&](size_t i, size_t) { return one[i]; });
    check(decode(values(PNG_COLOR_TYPE_GRAY, 16, 1)), [&](size_t i, size_t) { return two[2 * i]; });
    check(decode(values(PNG_COLOR_TYPE_GRAY_ALPHA, 8, 2)),
          [&](size_t i, size_t) { return two[2 * i]; });
    check(decode(values(PNG_COLOR_TYPE_RGB_ALPHA, 8, 4)),
          [&](size_t i, size_t c) { return four[4 * i + c]; });
    check(decode(values(PNG_COLOR_TYPE_RGB, 16, 3)),
          [&](size_t i, size_t c) { return six[6 * i + 2 * c]; });
    check(decode(values(PNG_COLOR_TYPE_PALETTE, 8, 1)),
          [&](size_t i, size_t c) { return uint8_t(one[i] * (c + 1)); });
  }
  // One bit each: 1 0 1 1 ...
  const Image bits = decode(png_file(1, 8, {0b10110010}, {PNG_COLOR_TYPE_GRAY, 1, false}));
  CHECK(bits.pixels == Bytes{255, 255, 255, 0, 0, 0, 255, 255, 255, 255, 255, 255,
                             0,   0,   0,   0, 0, 0, 255, 255, 255, 0,   0,   0});
  CHECK_THAT(error_of([&] {
               decode(png_file(8, 8, picture(8, 8, 3)), {0, 0, 4, 4}, 2);
             }),
             Contains("cannot be reduced by 2"));
}

TEST_CASE("truncated images are refused by a sentence that names them", "[image]") {
  const Bytes pixels = picture(40, 60, 3);
  for (const Bytes& file :
       {jpeg_file(40, 60, pixels), jpeg_file(40, 60, pixels, {.progressive = true}),
        png_file(40, 60, pixels), png_file(40, 60, pixels, {.interlaced = true})})
    for (size_t size = 0; size + 12 < file.size(); size += size < 32 ? 1 : file.size() / 61) {
      INFO(size << " of " << file.size());
      CHECK_THAT(decode_error(Bytes(file.begin(), file.begin() + int64_t(size))),
                 Contains("image 'picture'"));
    }
  CHECK_THAT(decode_error({}), Contains("is empty"));
  CHECK_THAT(decode_error({'G', 'I', 'F', '8', '9', 'a'}), Contains("neither a JPEG nor a PNG"));
}

TEST_CASE("corrupt images are refused or decoded, and nothing else", "[image]") {
  const Bytes pixels = picture(24, 32, 3);
  int refused = 0;
  for (const Bytes& file :
       {jpeg_file(24, 32, pixels), jpeg_file(24, 32, pixels, {.progressive = true}),
        png_file(24, 32, pixels)})
    for (size_t i = 0; i < file.size(); ++i) {
      Bytes flipped = file;
      flipped[i] ^= uint8_t(1 + i * 37 % 255);
      const std::string error = decode_error(flipped);
      if (error.empty()) continue;
      CHECK_THAT(error, Contains("image 'picture'"));
      ++refused;
    }
  CHECK(refused > 500);
  // A CRC protects every chunk of a PNG.
  Bytes png = png_file(24, 32, pixels);
  png[png.size() / 2] ^= 1;
  CHECK_THAT(decode_error(png), Contains("not an intact PNG"));
}

TEST_CASE("sizes are checked before memory is taken", "[image]") {
  // The dimensions in a JPEG's frame header are at offset 5 of SOF0 (FF C0).
  Bytes jpeg = jpeg_file(16, 16, picture(16, 16, 3));
  const Bytes marker = {0xFF, 0xC0};
  const auto frame = std::search(jpeg.begin(), jpeg.end(), marker.begin(), marker.end());
  REQUIRE(frame != jpeg.end());
  std::fill(frame + 5, frame + 9, uint8_t{0xFF});
  CHECK_THAT(decode_error(jpeg), Contains("picture") && Contains("65500"));
  frame[5] = frame[6] = 0xF0;
  frame[7] = frame[8] = 0x80;
  CHECK_THAT(decode_error(jpeg), Contains("61680 x 32896 pixels"));

  // A PNG of one colour: a few bytes that are a picture of 900 MB.
  const auto wide = [](int height, int width) {
    return png_file(height, width, Bytes(size_t(height) * size_t(width) / 8),
                    {PNG_COLOR_TYPE_GRAY, 1, false});
  };
  CHECK_THAT(decode_error(wide(20000, 16000)), Contains("20000 x 16000 pixels"));
  CHECK_THAT(decode_error(wide(8, 70000)), Contains("8 x 70000 pixels"));
  CHECK(decode(wide(8, 65496)).pixels.size() == size_t{3} * 8 * 65496);

  // Too short for what they say they are, so that it is known without decoding them.
  frame[5] = 0x1F, frame[6] = 0x40;
  frame[7] = 0x3E, frame[8] = 0x80;
  CHECK_THAT(decode_error(jpeg), Contains("cannot hold 8000 x 16000 pixels"));
  Bytes cut = wide(8000, 16000);
  CHECK(decode(cut, Region{0, 0, 1, 1}).pixels.size() == size_t{3} * 16000);
  cut.resize(cut.size() / 4);
  CHECK_THAT(decode_error(cut), Contains("cannot hold 8000 x 16000 pixels"));

  const Bytes file = jpeg_file(16, 16, picture(16, 16, 3));
  for (const Region& region : {Region{-1, 0, 4, 4}, Region{0, 13, 4, 4}, Region{0, 0, 17, 1},
                               Region{0, 0, 0, 4}, Region{15, 0, INT64_MAX, 1}})
    CHECK_THAT(error_of([&] { decode(file, region); }), Contains("were asked for"));
}
