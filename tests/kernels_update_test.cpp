// SGD against the formula in float64, and the augmentation against a plain pad, crop and flip.
#include "kernels/update.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cfloat>
#include <set>

#include "kernels/augment.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;
using testing::relative_error;

// Three steps of SGD as PyTorch defines it, with torch's own order of operations.
struct PlainSgd {
  std::vector<double> w, m;
  void step(const std::vector<double>& grad, const SgdUpdate& update) {
    const double momentum = static_cast<double>(update.momentum),
                 lr = static_cast<double>(update.lr);
    for (size_t i = 0; i < w.size(); ++i) {
      const double d = grad[i] + static_cast<double>(update.weight_decay) * w[i];
      m[i] = momentum * m[i] + d;
      w[i] -= lr * (update.nesterov ? d + momentum * m[i] : m[i]);
    }
  }
};

}  // namespace

TEST_CASE("SGD: momentum, Nesterov and weight decay, in float64 and float32, over three steps") {
  for (const bool nesterov : {false, true})
    for (const float momentum : {0.0f, 0.9f})
      for (const float decay : {0.0f, 5e-4f}) {
        const SgdUpdate update{0.1f, momentum, decay, nesterov};
        for (const Dtype dtype : {Dtype::kFloat64, Dtype::kFloat32}) {
          const Shape shape = vector_shape(20011);
          const Buffer w(dtype, shape, random_vector(20011, 1)),
              m(dtype, shape, random_vector(20011, 2));
          PlainSgd plain{w.values(), m.values()};
          Exec exec(kTestDevice, 2);
          for (uint64_t step = 0; step < 3; ++step) {
            const Buffer grad(dtype, shape, random_vector(20011, 3 + step));
            sgd_update(exec, w, m, grad, View{}, View{}, update);
            plain.step(grad.values(), update);
          }
          const double tolerance = dtype == Dtype::kFloat64 ? 1e-15 : 4 * FLT_EPSILON;
          CHECK(relative_error(w.values(), plain.w) < tolerance);
          CHECK(relative_error(m.values(), plain.m) < tolerance);
        }
      }
}

TEST_CASE("SGD: the compute copy is the new weight, rounded, and changes nothing else") {
  const Shape shape = vector_shape(1023);
  const std::vector<double> start = random_vector(1023, 1), momentum = random_vector(1023, 2);
  const Buffer w(Dtype::kFloat32, shape, start), m(Dtype::kFloat32, shape, momentum);
  const Buffer w_only(Dtype::kFloat32, shape, start), m_only(Dtype::kFloat32, shape, momentum);
  const Buffer grad(Dtype::kFloat32, shape, random_vector(1023, 3)), copy(Dtype::kBFloat16, shape);
  Exec exec(kTestDevice, 1);
  const SgdUpdate update{0.05f, 0.9f, 5e-4f, true};
  sgd_update(exec, w, m, grad, copy, View{}, update);
  sgd_update(exec, w_only, m_only, grad, View{}, View{}, update);
  CHECK((w.bytes() == w_only.bytes()));
  CHECK((m.bytes() == m_only.bytes()));
  CHECK((copy.values() == testing::rounded_to(Dtype::kBFloat16, w.values())));
}

TEST_CASE("segment squares: any lengths, gaps, none, the same for any number of threads") {
  const std::vector<int64_t> lengths = {0, 1, 31, 33, 1023, 8191, 8192, 8193, 20011, 16384, 0, 7};
  for (const int64_t gap : {0, 5, 16})  // parts that do and do not start on 16 bytes
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat64}) {
      std::vector<SegmentPart> segments;
      int64_t total = gap;
      for (const int64_t length : lengths) {
        segments.push_back({total, total + length});
        total += (length + 15) / 16 * 16 + gap;
      }
      std::reverse(segments.begin(), segments.end());  // their order is the caller's
      const Buffer flat(dtype, vector_shape(total), random_vector(total, 1));
      const std::vector<double> values = flat.values();
      const SegmentTable table(kTestDevice, segments);
      const Buffer squares(Dtype::kFloat64, vector_shape(table.segments()));
      std::vector<double> first;
      for (const int threads : testing::thread_counts()) {
        Exec exec(kTestDevice, threads);
        segment_squares(exec, squares, flat, table);
        if (first.empty()) first = squares.values();
        CHECK((squares.values() == first));
      }
      for (size_t s = 0; s < segments.size(); ++s) {
        double expected = 0;
        for (int64_t i = segments[s].first; i < segments[s].last; ++i)
          expected += values[static_cast<size_t>(i)] * values[static_cast<size_t>(i)];
        CHECK(relative_error(first[s], expected) < (dtype == Dtype::kFloat64 ? 1e-13 : 1e-6));
      }
    }
  Exec exec(kTestDevice, 1);
  const SegmentTable none(kTestDevice, {});
  const Buffer flat(Dtype::kFloat32, vector_shape(8), random_vector(8, 1));
  const Buffer one(Dtype::kFloat32, vector_shape(1));
  CHECK_THROWS_WITH(segment_squares(exec, one, flat, none),
                    Catch::Contains("1 sums for 0 segments"));
  CHECK_THROWS_WITH(SegmentTable(kTestDevice, {{3, 1}}), Catch::Contains("from 3 to 1"));
}

TEST_CASE("clip scale: gradients longer than the limit are scaled to it, others are not") {
  Exec exec(kTestDevice, 1);
  const Buffer squares(Dtype::kFloat64, vector_shape(3), {4, 0, 12}),
      scale(Dtype::kFloat32, vector_shape(1));  // norm 4
  const auto at = [&](double most) {
    clip_scale(exec, scale, squares, most);
    return scale.values()[0];
  };
  CHECK(at(1) == 0.25);
  CHECK(at(3) == 0.75);
  CHECK(at(4) == 1);
  CHECK(at(100) == 1);
}

TEST_CASE("SGD: what does not decay, and a learning rate that stands on the device") {
  const Shape shape = vector_shape(1023);
  std::vector<double> decays = random_vector(1023, 5);
  for (double& bit : decays) bit = bit > 0 ? 1 : 0;
  const Buffer w(Dtype::kFloat64, shape, random_vector(1023, 1)),
      m(Dtype::kFloat64, shape, random_vector(1023, 2)),
      grad(Dtype::kFloat64, shape, random_vector(1023, 3)), bits(Dtype::kBit, shape, decays);
  const SgdUpdate update{0.05f, 0.9f, 0.25f, false};
  PlainSgd with{w.values(), m.values()}, without = with;
  with.step(grad.values(), update);
  without.step(grad.values(), {0.05f, 0.9f, 0, false});
  testing::DeviceVector<float> lr;
  lr.push_back(0.05f);
  SgdUpdate elsewhere = update;
  elsewhere.lr = 100;  // not read
  elsewhere.lr_at = lr.data();
  Exec exec(kTestDevice, 2);
  sgd_update(exec, w, m, grad, View{}, bits, elsewhere);
  std::vector<double> expected;
  for (size_t i = 0; i < decays.size(); ++i)
    expected.push_back(decays[i] != 0 ? with.w[i] : without.w[i]);
  CHECK(relative_error(w.values(), expected) < 1e-15);
}

namespace {

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
}

}  // namespace ringfort
