// The augmentation against a plain pad, crop and flip.
#include "kernels/augment.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;

// One image: padded with zeros, cropped at (pad + dy, pad + dx), mirrored.
std::vector<double> plain_augment(const std::vector<double>& image, const Shape& s, int pad,
                                  const PadCropFlip::Choice& choice) {
  const int64_t height = s.h + 2 * pad, width = s.w + 2 * pad;
  std::vector<double> padded(static_cast<size_t>(height * width * s.c)), result;
  for (int64_t h = 0; h < s.h; ++h)
    for (int64_t i = 0; i < s.w * s.c; ++i)
      padded[static_cast<size_t>(((h + pad) * width + pad) * s.c + i)] =
          image[static_cast<size_t>(h * s.w * s.c + i)];
  for (int64_t h = 0; h < s.h; ++h)
    for (int64_t w = 0; w < s.w; ++w)
      for (int64_t c = 0; c < s.c; ++c) {
        const int64_t column = pad + choice.dx + (choice.mirrored ? s.w - 1 - w : w);
        const double byte =
            padded[static_cast<size_t>(((h + pad + choice.dy) * width + column) * s.c + c)];
        result.push_back(static_cast<double>(static_cast<float>(byte) / 255.0f));
      }
  return result;
}

void check_augment(const Shape& shape, int pad, bool flip) {
  const Buffer bytes(Dtype::kUint8, shape, testing::random_integers(shape.count(), 1, 0, 255));
  const Buffer x(Dtype::kFloat32, shape);
  testing::DeviceVector<int64_t> samples;
  for (int64_t n = 0; n < shape.n; ++n) samples.push_back(7 * n + 1);
  const PadCropFlip augment{pad, flip, {3, Purpose::kAugment, 9}};
  Exec exec(kTestDevice, 2);
  pad_crop_flip(exec, x, bytes, samples.data(), augment);
  const std::vector<double> stored = bytes.values(), got = x.values();
  const int64_t length = shape.per_sample();
  for (int64_t n = 0; n < shape.n; ++n) {
    const std::vector<double> image(stored.begin() + n * length, stored.begin() + (n + 1) * length);
    const std::vector<double> expected =
        plain_augment(image, shape, pad, augment.choose(samples[static_cast<size_t>(n)]));
    CHECK(std::equal(expected.begin(), expected.end(), got.begin() + n * length));
  }
}

}  // namespace

TEST_CASE("pad_crop_flip against a plain implementation") {
  check_augment({40, 8, 8, 3}, 2, true);
  check_augment({40, 7, 5, 1}, 4, true);
  check_augment({40, 6, 9, 3}, 3, false);
  check_augment({20, 32, 32, 3}, 4, true);
  check_augment({5, 4, 4, 3}, 0, true);
  check_augment({5, 4, 4, 3}, 6, false);  // crops that may miss the image altogether
}

TEST_CASE("pad_crop_flip: without padding and flips only the division by 255 remains") {
  const Shape shape{1, 16, 16, 1};
  std::vector<double> levels, pixels;
  for (int level = 0; level < 256; ++level) {
    levels.push_back(level);
    pixels.push_back(static_cast<double>(static_cast<float>(level) / 255.0f));
  }
  const Buffer bytes(Dtype::kUint8, shape, levels), x(Dtype::kFloat32, shape);
  const int64_t sample = 5;
  Exec exec(kTestDevice, 1);
  pad_crop_flip(exec, x, bytes, &sample, PadCropFlip{0, false, {1, Purpose::kAugment, 0}});
  CHECK((x.values() == pixels));
}

TEST_CASE("PadCropFlip: every offset and both directions occur, about equally often") {
  const PadCropFlip augment{4, true, {1, Purpose::kAugment, 0}};
  std::set<std::tuple<int64_t, int64_t, bool>> seen;
  int mirrored = 0, low = 0;
  constexpr int kSamples = 4000;
  for (int64_t sample = 0; sample < kSamples; ++sample) {
    const PadCropFlip::Choice choice = augment.choose(sample);
    REQUIRE(std::abs(choice.dy) <= 4);
    REQUIRE(std::abs(choice.dx) <= 4);
    seen.insert({choice.dy, choice.dx, choice.mirrored});
    mirrored += choice.mirrored;
    low += choice.dx == -4;
  }
  CHECK(seen.size() == 9 * 9 * 2);
  CHECK(std::abs(mirrored - kSamples / 2) < 5 * std::sqrt(kSamples / 4.0));
  CHECK(std::abs(low - kSamples / 9.0) < 5 * std::sqrt(kSamples * 8 / 81.0));
}

TEST_CASE("cutout: a square of zeros around any pixel, the rest as without it") {
  const Shape shape{300, 9, 7, 3};
  const Buffer bytes(Dtype::kUint8, shape, testing::random_integers(shape.count(), 1, 1, 255));
  const Buffer plain(Dtype::kFloat32, shape), cut(Dtype::kFloat32, shape);
  testing::DeviceVector<int64_t> samples;
  for (int64_t n = 0; n < shape.n; ++n) samples.push_back(5 * n);
  Exec exec(kTestDevice, 2);
  const RandomKey key{2, Purpose::kAugment, 1};
  for (const int side : {1, 4, 5, 20}) {
    const PadCropFlip augment{2, true, key, side};
    pad_crop_flip(exec, plain, bytes, samples.data(), PadCropFlip{2, true, key});
    pad_crop_flip(exec, cut, bytes, samples.data(), augment);
    const std::vector<double> before = plain.values(), after = cut.values();
    std::set<std::pair<int64_t, int64_t>> places;
    for (int64_t n = 0; n < shape.n; ++n) {
      const PadCropFlip::Choice choice =
          augment.choose(samples[static_cast<size_t>(n)], shape.h, shape.w);
      places.insert({choice.top, choice.left});
      for (int64_t i = 0; i < shape.per_sample(); ++i) {
        const int64_t h = i / (shape.w * shape.c), w = i / shape.c % shape.w;
        const bool inside =
            h >= choice.top && h < choice.top + side && w >= choice.left && w < choice.left + side;
        const auto at = static_cast<size_t>(n * shape.per_sample() + i);
        if (after[at] != (inside ? 0 : before[at])) FAIL("sample " << n << ", element " << i);
      }
    }
    CHECK(places.size() > 60);  // nearly all of 63
    CHECK(places.begin()->first == -side / 2);
    CHECK(places.rbegin()->first == shape.h - 1 - side / 2);
  }
}

TEST_CASE("pad_crop_flip: depends on seed, epoch and sample, not on batch or threads") {
  const Shape shape{60, 16, 16, 3};
  const Buffer bytes(Dtype::kUint8, shape, testing::random_integers(shape.count(), 1, 0, 255));
  const Buffer together(Dtype::kFloat32, shape), apart(Dtype::kFloat32, shape),
      later(Dtype::kFloat32, shape);
  testing::DeviceVector<int64_t> samples;
  for (int64_t n = 0; n < 60; ++n) samples.push_back(n * n);
  Exec serial(kTestDevice, 1), parallel(kTestDevice, 3);
  const PadCropFlip augment{4, true, {1, Purpose::kAugment, 0}};
  pad_crop_flip(parallel, together, bytes, samples.data(), augment);
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 40}, {41, 19}})
    pad_crop_flip(serial, apart.view().samples(first, count), bytes.view().samples(first, count),
                  samples.data() + first, augment);
  CHECK((together.bytes() == apart.bytes()));
  pad_crop_flip(serial, later, bytes, samples.data(),
                PadCropFlip{4, true, {1, Purpose::kAugment, 1}});
  CHECK((together.bytes() != later.bytes()));
}

TEST_CASE("pad_crop_flip refuses wrong dtypes and paddings") {
  const Buffer bytes(Dtype::kUint8, {1, 2, 2, 1}), x(Dtype::kFloat32, {1, 2, 2, 1});
  const int64_t sample = 0;
  Exec exec(kTestDevice, 1);
  CHECK_THROWS_AS(pad_crop_flip(exec, x, x, &sample, {}), Error);
  CHECK_THROWS_AS(pad_crop_flip(exec, x, bytes, &sample, PadCropFlip{-1, false, {}}), Error);
  CHECK_THROWS_AS(pad_crop_flip(exec, x, bytes, &sample, PadCropFlip{0, false, {}, -1}), Error);
}

}  // namespace ringfort
