// exp and log of the vectorised loops against the C library in double, over the ranges they
// promise; Philox side by side against Philox one by one.
#include "kernels/elementary.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "kernels/philox_lanes.h"

namespace ringfort {

TEST_CASE("exp_below_zero: float32 within 2e-7, exact at 0, 0 far below, NaN stays") {
  CHECK(exp_below_zero(0.0f) == 1.0f);
  CHECK(exp_below_zero(-0.0f) == 1.0f);
  double worst = 0;
  for (int i = 0; i <= 870000; ++i) {
    const float x = -static_cast<float>(i) * 1e-4f;
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(exp_below_zero(x)) - exact) / exact);
  }
  CHECK(worst < 2e-7);
  CHECK(exp_below_zero(-87.4f) == 0.0f);
  CHECK(exp_below_zero(-1e30f) == 0.0f);
  CHECK(exp_below_zero(-std::numeric_limits<float>::infinity()) == 0.0f);
  CHECK(std::isnan(exp_below_zero(std::numeric_limits<float>::quiet_NaN())));
  CHECK(exp_below_zero(-1.5) == std::exp(-1.5));
}

TEST_CASE("log_of_positive: float32 within 1e-7 of 1 + |log x|, exact at 1") {
  CHECK(log_of_positive(1.0f) == 0.0f);
  double worst = 0;
  for (double value = 1.2e-38; value < 3e38; value *= 1.0001) {
    const float x = static_cast<float>(value);
    const double exact = std::log(static_cast<double>(x));
    const double error = std::abs(static_cast<double>(log_of_positive(x)) - exact);
    worst = std::max(worst, error / (1 + std::abs(exact)));
  }
  CHECK(worst < 1e-7);
  CHECK(log_of_positive(1.5) == std::log(1.5));
  CHECK(std::isnan(log_of_positive(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("uniform_run: the numbers of RandomKey::word, wherever a run begins") {
  const RandomKey key{0x123456789ABCDEFu, Purpose::kAttackStart, 7};
  const uint64_t sample = (uint64_t{1} << 40) + 5;
  for (const int64_t first : {int64_t{0}, int64_t{512}, int64_t{4} * 0xFFFFFFF0})
    for (const int64_t n : {1, 64, 65, 512}) {
      float uniform[512];
      detail::uniform_run(key, sample, first, n, uniform);
      int64_t different = 0;
      for (int64_t i = 0; i < n; ++i) {
        const auto block = static_cast<uint32_t>((first + i) / 4);
        different += uniform[i] != uniform01(key.words(sample, block).word[(first + i) % 4]);
      }
      CHECK(different == 0);
    }
}

}  // namespace ringfort
