// exp and log for the loops over elements, where calls into the C library would keep a loop from
// vectorising: in float32 polynomials without branches, on every other scalar the library's own.
// Not for general use: each states its range.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/hd.h"

namespace ringfort {

// exp(x) for x <= 0 (softmax), NaN for NaN; float32: relative error below 2e-7, 0 below the normal
// numbers.
template <class S>
HD inline S exp_below_zero(S x) {
  using std::exp;
  return exp(x);
}
HD inline float exp_below_zero(float x) {
  // x = n log 2 + r, |r| <= log(2) / 2. Adding 1.5 x 2^23 rounds to an integer, in the low bits.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float power = p * (r * r) + r + 1.0f;
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127u) << 23;  // 2^n
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  return x < -87.3f ? 0.0f : power * scale;
}

// log(x) for positive normal x, NaN for NaN, which a loss must not hide; float32: absolute error
// below 1e-7 + 1e-7 |log x|.
template <class S>
HD inline S log_of_positive(S x) {
  using std::log;
  return log(x);
}
HD inline float log_of_positive(float x) {
  // x = 2^n (1 + f), 1 + f in [sqrt(1/2), sqrt(2))
  constexpr int32_t kSqrtHalf = 0x3F3504F3;
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits -= kSqrtHalf;
  const float n = static_cast<float>(bits >> 23);
  bits = (bits & 0x007FFFFF) + kSqrtHalf;
  float f;
  memcpy(&f, &bits, sizeof f);
  f -= 1.0f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float square = f * f;
  const float tail = p * f * square - n * 2.12194440e-4f - 0.5f * square;
  return x == x ? f + tail + n * 0.693359375f : x;
}

}  // namespace ringfort
