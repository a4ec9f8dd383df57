// What every kernel stands on: bfloat16 rounding, bit packing, Philox, the scalar functions, View.
#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <set>

#include "kernels/bfloat16.h"
#include "kernels/philox.h"
#include "kernels/scalar.h"
#include "kernels/slots.h"
#include "kernels/view.h"
#include "tests/dual.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

float float_from(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The upper half of a float as a real number; the step above the largest one counts as 2^128.
double bfloat16_value(uint32_t upper) {
  const uint32_t magnitude = upper & 0x7FFFu;
  const double value = magnitude == 0x7F80u ? std::ldexp(1.0, 128)
                                            : static_cast<double>(float_from(magnitude << 16));
  return (upper & 0x8000u) != 0 ? -value : value;
}

// Round to nearest, ties to the even upper half, decided on real numbers.
uint32_t nearest_even_upper(uint32_t bits) {
  const uint32_t below = bits >> 16, above = below + 1;  // in magnitude
  const double value = static_cast<double>(float_from(bits));
  const double to_below = std::abs(value - bfloat16_value(below));
  const double to_above = std::abs(value - bfloat16_value(above));
  if (to_below == to_above) return below % 2 == 0 ? below : above;
  return to_below < to_above ? below : above;
}

}  // namespace

TEST_CASE("bfloat16: every upper half survives a round trip, NaN stays NaN") {
  int64_t wrong = 0;
  for (uint32_t upper = 0; upper < 0x10000u; ++upper) {
    const auto bits = static_cast<uint16_t>(upper);
    const float value = to_float(BFloat16{bits});
    const BFloat16 back = to_bfloat16(value);
    if (std::isnan(value))
      wrong += !std::isnan(to_float(back)) || (back.bits ^ bits) >> 15 != 0;
    else
      wrong += back.bits != bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("bfloat16: rounds to nearest, ties to even, for every upper half") {
  int64_t wrong = 0;
  for (uint32_t upper = 0; upper < 0x10000u; ++upper) {
    const bool infinite_or_nan = (upper & 0x7F80u) == 0x7F80u;
    for (const uint32_t lower : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u, 0xC000u, 0xFFFFu}) {
      const uint32_t bits = upper << 16 | lower;
      const BFloat16 rounded = to_bfloat16(float_from(bits));
      if (!infinite_or_nan)
        wrong += rounded.bits != nearest_even_upper(bits);
      else if ((bits & 0x7FFFFFu) != 0)  // NaN, also where its payload is in the lower half only
        wrong += !std::isnan(to_float(rounded));
      else
        wrong += rounded.bits != upper;  // infinity
    }
  }
  CHECK(wrong == 0);
  const float largest = std::numeric_limits<float>::max();
  CHECK(std::isinf(to_float(to_bfloat16(largest))));
}

TEST_CASE("bit packing: bits come back in order and a tail byte ends in zeros") {
  for (const int64_t n : {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 511, 512}) {
    const std::vector<double> values = testing::random_integers(n, 3, 0, 1);
    std::vector<uint8_t> bytes(static_cast<size_t>((n + 7) / 8) + 1, 0xEE);
    detail::pack_bits(values.data(), n, bytes.data());
    uint8_t expected = 0;
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; ++i) {
      if (i % 8 == 0) expected = 0;
      expected = static_cast<uint8_t>(expected | (values[static_cast<size_t>(i)] != 0) << i % 8);
      if (i % 8 == 7 || i + 1 == n) wrong += bytes[static_cast<size_t>(i / 8)] != expected;
    }
    CHECK(wrong == 0);
    CHECK(bytes.back() == 0xEE);  // nothing behind the last byte was touched

    std::vector<float> unpacked(static_cast<size_t>(n));
    detail::unpack_bits(bytes.data(), n, unpacked.data());
    CHECK(std::equal(unpacked.begin(), unpacked.end(), values.begin(), values.end()));
  }
}

TEST_CASE("bit packing: whatever is not zero is a one") {
  const float values[3] = {-0.0f, 1e-30f, -5.0f};
  uint8_t byte = 0;
  detail::pack_bits(values, 3, &byte);
  CHECK(byte == 0b110);
}

TEST_CASE("Philox4x32-10 gives the published answers") {
  // kat_vectors of Random123 (Salmon et al. 2011)
  const auto check = [](Philox4 counter, uint32_t key0, uint32_t key1, Philox4 expected) {
    const Philox4 words = philox4x32_10(counter, key0, key1);
    for (int k = 0; k < 4; ++k) CHECK(words.word[k] == expected.word[k]);
  };
  constexpr uint32_t kOnes = 0xFFFFFFFFu;
  check({{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}});
  check({{kOnes, kOnes, kOnes, kOnes}}, kOnes, kOnes,
        {{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}});
  check({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}}, 0xa4093822u, 0x299f31d0u,
        {{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}});
}

TEST_CASE("RandomKey: every part of the key changes the numbers, elements are words of blocks") {
  const RandomKey key{7, Purpose::kAttackStart, 2};
  std::set<uint32_t> first_words;
  const auto add = [&](RandomKey k, uint64_t sample) { first_words.insert(k.word(sample, 0)); };
  add(key, 5);
  add(key, 6);
  add(key, 5 + (uint64_t{1} << 32));
  add({8, Purpose::kAttackStart, 2}, 5);
  add({7 + (uint64_t{1} << 32), Purpose::kAttackStart, 2}, 5);
  add({7, Purpose::kAugment, 2}, 5);
  add({7, Purpose::kAttackStart, 3}, 5);
  CHECK(first_words.size() == 7);
  for (uint32_t element = 0; element < 12; ++element)
    CHECK(key.word(5, element) == key.words(5, element / 4).word[element % 4]);
  CHECK(key.word(5, 0) != key.word(5, 4));
}

TEST_CASE("uniform01 lies strictly inside (0, 1), symmetric, with the moments of U(0, 1)") {
  CHECK(uniform01(0) > 0);
  CHECK(uniform01(0xFFFFFFFFu) < 1);
  CHECK(uniform01(0) == 1 - uniform01(0xFFFFFFFFu));
  const RandomKey key{1, Purpose::kTest, 0};
  constexpr int kCount = 100000;
  double sum = 0, squares = 0;
  for (uint32_t i = 0; i < kCount; ++i) {
    const double u = static_cast<double>(uniform01(key.word(3, i)));
    sum += u;
    squares += (u - 0.5) * (u - 0.5);
  }
  // 5 standard deviations: sqrt(1/12/n) for the mean, sqrt(1/180/n) for the variance
  CHECK(std::abs(sum / kCount - 0.5) < 5 * std::sqrt(1.0 / 12 / kCount));
  CHECK(std::abs(squares / kCount - 1.0 / 12) < 5 * std::sqrt(1.0 / 180 / kCount));
}

TEST_CASE("clamp and sign") {
  CHECK(clamp(2.0, 0.0, 1.0) == 1);
  CHECK(clamp(-2.0, 0.0, 1.0) == 0);
  CHECK(clamp(0.25, 0.0, 1.0) == 0.25);
  CHECK(sign(-3.0f) == -1);
  CHECK(sign(0.0f) == 0);
  CHECK(sign(-0.0f) == 0);
  CHECK(sign(1e-38f) == 1);
  CHECK(sign(std::nanf("")) == 0);
}

TEST_CASE("dual numbers agree with central differences") {
  const auto f = [](auto x) {
    using std::exp;
    using std::log;
    using std::sqrt;
    using T = decltype(x);
    return exp(x) * sqrt(x) / (x + T(1)) - log(x) * x;
  };
  for (const double x : {0.3, 1.7, 4.2}) {
    const double difference = (f(x + 1e-6) - f(x - 1e-6)) / 2e-6;
    CHECK(testing::relative_error(f(variable(x)).slope, difference) < 1e-8);
    CHECK(f(variable(x)).value == Approx(f(x)).epsilon(1e-15));
  }
}

TEST_CASE("View: bytes, samples and reshapes") {
  CHECK(bytes_for(Dtype::kBit, 0) == 0);
  CHECK(bytes_for(Dtype::kBit, 1) == 8);
  CHECK(bytes_for(Dtype::kBit, 64) == 8);
  CHECK(bytes_for(Dtype::kBit, 65) == 16);
  CHECK(bytes_for(Dtype::kBFloat16, 3) == 6);

  const testing::Buffer x(Dtype::kFloat32, {4, 2, 1, 3}, testing::random_integers(24, 1, 0, 9));
  const View part = x.view().samples(1, 2);
  CHECK(part.shape == Shape{2, 2, 1, 3});
  CHECK(part.as<float>() == x.view().as<float>() + 6);
  CHECK_THROWS_AS(x.view().samples(3, 2), Error);
  CHECK_THROWS_AS(testing::Buffer(Dtype::kBit, {4, 2, 1, 3}).view().samples(0, 1), Error);

  CHECK(reshaped(x, matrix_shape(4, 6)).shape == Shape{4, 1, 1, 6});
  CHECK_THROWS_AS(reshaped(x, matrix_shape(4, 5)), Error);
  const testing::Buffer blocked(Dtype::kFloat32, {1, 2, 2, 16}, Layout::kBlocked16);
  CHECK_THROWS_AS(reshaped(blocked, matrix_shape(1, 64)), Error);
}

}  // namespace ringfort
