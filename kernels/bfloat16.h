// bfloat16: the upper half of a float32, rounded to nearest even; NaN stays NaN.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/hd.h"

namespace ringfort {

struct BFloat16 {
  uint16_t bits = 0;
};

HD inline float to_float(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

HD inline BFloat16 to_bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint32_t quiet_nan = (bits >> 16) | 0x0040u;
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  return {static_cast<uint16_t>(is_nan ? quiet_nan : rounded)};
}

}  // namespace ringfort
