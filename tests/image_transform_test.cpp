// Resizing byte for byte as PIL's, crops as torchvision chooses them, and the two together.
#include <zlib.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "engine/data/image_transform.h"
#include "tests/image_files.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

uint32_t crc(const Bytes& bytes) {
  return uint32_t(crc32(0, bytes.data(), static_cast<uInt>(bytes.size())));
}

Image picture_image(int height, int width, int variant = 0) {
  return {{0, 0, height, width}, picture(height, width, 3, variant)};
}

// A region of the image resized to height x width.
Bytes resized(const Image& image, const Region& region, int64_t height, int64_t width,
              bool mirrored = false) {
  const auto axis = [](int64_t begin, int64_t end, int64_t out) {
    AxisWeights weights;
    bilinear_weights({double(begin), double(end), begin, end, out, 0, out}, weights);
    return weights;
  };
  Bytes out(size_t(height * width * 3));
  ResampleScratch scratch;
  resample(image, axis(region.top, region.bottom(), height),
           axis(region.left, region.right(), width), mirrored, out.data(), scratch);
  return out;
}

Bytes transformed(const Bytes& file, const ImageTransform& transform, int64_t sample = 0) {
  Bytes out(size_t(transform.size) * size_t(transform.size) * 3);
  ImagePipeline().run(file, "picture", transform, sample, out.data());
  return out;
}

}  // namespace

TEST_CASE("resizing gives PIL's bytes", "[image]") {
  const Image image = picture_image(31, 45);
  // PIL.Image.fromarray(picture).crop(region).resize(size, BILINEAR), Pillow 13.0.0
  const Bytes four_by_six = {108, 130, 152, 89, 104, 118, 67,  73,  81,  46,  49,  73, 27, 57, 107,
                             29,  84,  141, 75, 103, 131, 55,  77,  95,  37,  50,  70, 30, 56, 90,
                             42,  85,  128, 63, 113, 159, 38,  72,  107, 31,  50,  75, 39, 58, 77,
                             59,  86,  112, 80, 115, 150, 103, 140, 170, 32,  48,  86, 50, 55, 69,
                             72,  85,  96,  92, 114, 134, 115, 141, 166, 131, 148, 160};
  CHECK(resized(image, {0, 0, 31, 45}, 4, 6) == four_by_six);
  CHECK(crc(resized(image, {0, 0, 31, 45}, 37, 53)) == 0xe6c1399b);
  CHECK(crc(resized(image, {3, 7, 17, 22}, 5, 5)) == 0xa69ff4cb);
  CHECK(crc(resized(image, {1, 2, 8, 10}, 11, 14)) == 0x4da9e431);
  CHECK(crc(resized(image, {0, 0, 31, 45}, 9, 45)) == 0x0bb0e04a);
  CHECK(resized(image, {0, 0, 31, 45}, 31, 45) == image.pixels);
}

TEST_CASE("a mirrored image is the other one from right to left", "[image]") {
  const Image image = picture_image(31, 45);
  const Bytes plain = resized(image, {0, 0, 31, 45}, 9, 14);
  const Bytes mirrored = resized(image, {0, 0, 31, 45}, 9, 14, true);
  for (size_t y = 0; y < 9; ++y)
    for (size_t x = 0; x < 14; ++x)
      for (size_t c = 0; c < 3; ++c)
        CHECK(mirrored[(y * 14 + x) * 3 + c] == plain[(y * 14 + 13 - x) * 3 + c]);
}

TEST_CASE("weights ask for the pixels they read and no others", "[image]") {
  AxisWeights weights;
  bilinear_weights({0, 1000, 0, 1000, 100, 40, 20}, weights);  // 10 to 1; outputs 40 to 59
  CHECK((weights.low() == 395 && weights.high() == 605));
  for (int64_t i = 0; i < weights.count; ++i) {
    int64_t sum = 0;
    for (int64_t t = 0; t < weights.taps; ++t) sum += weights.weights[size_t(i * weights.taps + t)];
    CHECK(std::abs(sum - (1 << 22)) <= weights.taps);
  }
  const Image image = picture_image(8, 20);
  CHECK_THAT(error_of([&] { resized(image, {0, 0, 9, 20}, 3, 3); }), Contains("not all there"));
  CHECK_THAT(error_of([&] {
               bilinear_weights({0, 8, 0, 8, 4, 3, 2}, weights);
             }),
             Contains("resample"));
}

TEST_CASE("evaluation sees the centre that torchvision's Resize and CenterCrop give", "[image]") {
  // Pillow 13.0.0 after the sizes that torchvision 0.20 computes.
  CHECK(crc(transformed(png_file(31, 45, picture(31, 45, 3, 1)), {.size = 16})) == 0x513967b0);
  CHECK(crc(transformed(png_file(60, 33, picture(60, 33, 3, 1)), {.size = 24})) == 0x1e0677c7);
  // However thin, a picture becomes a square.
  for (const auto& [height, width] : {std::pair{1, 500}, {500, 1}, {1, 1}})
    CHECK(transformed(png_file(height, width, Bytes(size_t(height) * size_t(width) * 3, 77)),
                      {.size = 8}) == Bytes(8 * 8 * 3, 77));
}

TEST_CASE("random crops follow their distribution", "[image]") {
  const ImageSize size{2000, 2000};
  const int64_t count = 20000;
  double area = 0, top = 0, left = 0, mirrored = 0, log_ratio = 0;
  for (int64_t sample = 0; sample < count; ++sample) {
    const RandomCrop crop = random_resized_crop(size, {3, Purpose::kImageCrop, 1}, sample);
    const Region& r = crop.region;
    REQUIRE((r.top >= 0 && r.left >= 0 && r.height >= 1 && r.width >= 1));
    REQUIRE((r.bottom() <= size.height && r.right() <= size.width));
    const double share = double(r.height * r.width) / double(size.pixels());
    const double ratio = double(r.width) / double(r.height);
    CHECK((share > 0.0795 && share <= 1));
    CHECK((ratio > 0.748 && ratio < 1.337));
    area += share;
    log_ratio += std::log(ratio);
    top += (double(r.top) + 0.5) / double(size.height - r.height + 1);
    left += (double(r.left) + 0.5) / double(size.width - r.width + 1);
    mirrored += crop.mirrored;
  }
  // With u = |log ratio| uniform in [0, L], L = log 4/3, a crop of a square fits where its area is
  // below exp(-u): E = ((1 - e^-2L) / 4 - 0.0032 L) / ((1 - e^-L) - 0.08 L). To five sigma.
  const double n = double(count), range = std::log(4.0 / 3);
  const double expected = ((1 - 0.5625) / 4 - 0.0032 * range) / ((1 - 0.75) - 0.08 * range);
  CHECK(std::abs(area / n - expected) < 5 * 0.25 / std::sqrt(n));
  CHECK(std::abs(log_ratio / n) < 5 * 0.17 / std::sqrt(n));
  CHECK(std::abs(top / n - 0.5) < 5 * 0.29 / std::sqrt(n));
  CHECK(std::abs(left / n - 0.5) < 5 * 0.29 / std::sqrt(n));
  CHECK(std::abs(mirrored / n - 0.5) < 5 * 0.5 / std::sqrt(n));
}

TEST_CASE("where no random crop fits, the centre is taken", "[image]") {
  for (int64_t sample = 0; sample < 20; ++sample) {
    const RandomKey key{1, Purpose::kImageCrop, 0};
    CHECK(random_resized_crop({1000, 10}, key, sample).region == Region{493, 0, 13, 10});
    CHECK(random_resized_crop({10, 1000}, key, sample).region == Region{0, 493, 10, 13});
    CHECK(random_resized_crop({1, 1}, key, sample).region == Region{0, 0, 1, 1});
  }
}

TEST_CASE("crops are keyed by seed, epoch and sample", "[image]") {
  const auto crop = [](uint64_t seed, uint32_t epoch, int64_t sample) {
    return random_resized_crop({300, 400}, {seed, Purpose::kImageCrop, epoch}, sample).region;
  };
  CHECK(crop(1, 2, 3) == crop(1, 2, 3));
  CHECK(!(crop(1, 2, 3) == crop(0, 2, 3)));
  CHECK(!(crop(1, 2, 3) == crop(1, 0, 3)));
  CHECK(!(crop(1, 2, 3) == crop(1, 2, 0)));
}

TEST_CASE("training sees the random crop, resized and mirrored", "[image]") {
  const Image image = picture_image(61, 83);
  const Bytes file = png_file(61, 83, image.pixels);
  int mirrored = 0;
  for (int64_t sample = 0; sample < 20; ++sample) {
    const RandomCrop crop = random_resized_crop({61, 83}, {9, Purpose::kImageCrop, 4}, sample);
    mirrored += crop.mirrored;
    const ImageTransform transform{.size = 12, .random_resized_crop = true, .seed = 9, .epoch = 4};
    CHECK(transformed(file, transform, sample) ==
          resized(image, crop.region, 12, 12, crop.mirrored));
  }
  CHECK((mirrored > 0 && mirrored < 20));
}

TEST_CASE("a large JPEG is decoded at a fraction of its size without a visible difference",
          "[image]") {
  Bytes pixels;
  for (int y = 0; y < 400; ++y)
    for (int x = 0; x < 500; ++x)
      for (int c = 0; c < 3; ++c)
        pixels.push_back(uint8_t(128 + 60 * std::sin(0.02 * x + c) + 50 * std::cos(0.03 * y - c)));
  const Bytes file = jpeg_file(400, 500, pixels, {.quality = 95});
  const Image whole{{0, 0, 400, 500}, pixels};
  for (int64_t sample = 0; sample < 20; ++sample) {
    const RandomCrop crop = random_resized_crop({400, 500}, {9, Purpose::kImageCrop, 0}, sample);
    const Bytes expected = resized(whole, crop.region, 24, 24, crop.mirrored);
    const Bytes got =
        transformed(file, {.size = 24, .random_resized_crop = true, .seed = 9}, sample);
    int largest = 0;
    for (size_t i = 0; i < got.size(); ++i)
      largest = std::max(largest, std::abs(got[i] - expected[i]));
    CHECK(largest <= 5);
  }
}
