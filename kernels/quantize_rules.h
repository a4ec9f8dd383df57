// The rules of the quantizers: x to a code and back. Each gives
//   code(x, scale, u)   u uniform in (0, 1)
//   value(code, scale)
// and says how many bits a code has, whether there is a scale, and whether u counts.
#pragma once

#include <cmath>
#include <cstring>

#include "kernels/bfloat16.h"

namespace ringfort::quantizers {

inline constexpr uint32_t kSignBit = 0x80000000u, kMagnitude = 0x7FFFFFFFu;
inline constexpr uint32_t kInfinity = 0x7F800000u, kNaN = 0x7FC00000u;

HD inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
HD inline float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
HD inline float with_sign(float magnitude, bool negative) {
  return float_of(bits_of(magnitude) | (negative ? kSignBit : 0));
}

struct Float32 {
  static constexpr bool kScaled = false, kRandom = false;
  HD int bits() const { return 32; }
  HD uint32_t code(float x, float, float) const { return bits_of(x); }
  HD float value(uint32_t code, float) const { return float_of(code); }
};

struct BFloat16Rule {
  static constexpr bool kScaled = false, kRandom = false;
  HD int bits() const { return 16; }
  HD uint32_t code(float x, float, float) const { return to_bfloat16(x).bits; }
  HD float value(uint32_t code, float) const {
    return to_float(BFloat16{static_cast<uint16_t>(code)});
  }
};

// scale: the largest magnitude of the chunk. Its exponent is taken out of all values, exactly, so
// that they lie in (-2, 2) and only the smallest lose bits.
struct Float16 {
  static constexpr bool kScaled = true, kRandom = false;
  HD int bits() const { return 16; }
  HD static float power(float scale) {  // 2^e; of a scale below the normal numbers the smallest
    const uint32_t exponent = bits_of(scale) & kInfinity;
    return float_of(exponent == 0 ? 0x00800000u : exponent);
  }
  HD uint32_t code(float x, float scale, float) const {
    const float y = x / power(scale);
    const uint32_t sign = (bits_of(y) & kSignBit) >> 16;
    const float magnitude = float_of(bits_of(y) & kMagnitude);
    // Below 2^-14 a half has steps of 2^-24: the sum rounds to them, to nearest even.
    if (magnitude < 6.103515625e-05f) return sign | (bits_of(magnitude + 0.5f) - bits_of(0.5f));
    const uint32_t bits = bits_of(magnitude);
    const uint32_t rounded = bits + 0x0FFFu + ((bits >> 13) & 1u);
    return sign | ((rounded - 0x38000000u) >> 13);
  }
  HD float value(uint32_t code, float scale) const {
    const uint32_t magnitude = code & 0x7FFFu;
    const float y = magnitude < 0x0400u ? static_cast<float>(magnitude) * 5.9604644775390625e-08f
                                        : float_of((magnitude << 13) + 0x38000000u);
    return with_sign(y, (code & 0x8000u) != 0) * (scale == scale ? power(scale) : scale);
  }
};

// Levels 0 ... `levels` of |x| / scale; the sign is the highest bit of the code.
struct Dithering {
  static constexpr bool kScaled = true, kRandom = true;
  int code_bits, levels;
  HD int bits() const { return code_bits; }
  HD uint32_t code(float x, float scale, float u) const {
    const float magnitude = float_of(bits_of(x) & kMagnitude);
    // A clipped scale is smaller than some values.
    const float share = magnitude < scale ? magnitude / scale : (scale > 0 ? 1.0f : 0.0f);
    const float y = share * static_cast<float>(levels);
    const float below = floorf(y);
    const uint32_t level = static_cast<uint32_t>(below) + (u < y - below ? 1u : 0u);
    return level | (bits_of(x) >> 31 << (code_bits - 1));
  }
  HD float value(uint32_t code, float scale) const {
    const uint32_t sign = 1u << (code_bits - 1);
    const float magnitude =
        scale * static_cast<float>(code & (sign - 1)) / static_cast<float>(levels);
    return with_sign(magnitude, (code & sign) != 0);
  }
};

// Rounded to one of the powers of two on either side, so that the mean is x: exactly, in integers,
// for subnormal numbers too, for which the lower side is 0. What would round up to infinity stays
// at the largest power. Exponent 255: not finite.
struct Natural {
  static constexpr bool kScaled = false, kRandom = true;
  HD int bits() const { return 9; }
  HD uint32_t code(float x, float, float u) const {
    const uint32_t bits = bits_of(x);
    const uint32_t mantissa = bits & 0x007FFFFFu;
    uint32_t exponent = (bits & kInfinity) >> 23;
    if (exponent < 254 && u * 8388608.0f < static_cast<float>(mantissa)) ++exponent;
    return exponent | (bits >> 31 << 8);
  }
  HD float value(uint32_t code, float) const {
    const uint32_t exponent = code & 0xFFu;
    const float magnitude = float_of(exponent == 255 ? kNaN : exponent << 23);
    return with_sign(magnitude, (code & 0x100u) != 0);
  }
};

// Levels 0, 2^(1 - levels), ..., 1/2, 1 of |x| / scale; code k > 0 is level 2^(k - levels).
struct NaturalDithering {
  static constexpr bool kScaled = true, kRandom = true;
  int code_bits, levels;
  HD int bits() const { return code_bits; }
  HD static float power_of_two(int exponent) {  // -126 to 1
    return float_of(static_cast<uint32_t>(exponent + 127) << 23);
  }
  HD uint32_t code(float x, float scale, float u) const {
    const float magnitude = float_of(bits_of(x) & kMagnitude);
    const float y = magnitude < scale ? magnitude / scale : (scale > 0 ? 1.0f : 0.0f);
    const int exponent = static_cast<int>(bits_of(y) >> 23) - 127;
    const int below = exponent + levels < 0 ? 0 : exponent + levels;  // code of the level below y
    const float low = below > 0 ? power_of_two(below - levels) : 0.0f;
    const float high = power_of_two(below > 0 ? below + 1 - levels : 1 - levels);
    const bool up = y > low && u * (high - low) < y - low;
    const uint32_t level = static_cast<uint32_t>(below) + (up ? 1u : 0u);
    return level | (bits_of(x) >> 31 << (code_bits - 1));
  }
  HD float value(uint32_t code, float scale) const {
    const uint32_t sign = 1u << (code_bits - 1);
    const int level = static_cast<int>(code & (sign - 1));
    const float magnitude = level > 0 ? scale * power_of_two(level - levels) : scale * 0.0f;
    return with_sign(magnitude, (code & sign) != 0);
  }
};

// +-scale. Of 0 the sign is drawn by lot, so that neither dead weights nor ties drift.
struct Sign {
  static constexpr bool kScaled = true, kRandom = true;
  HD int bits() const { return 1; }
  HD uint32_t code(float x, float, float u) const {
    if (x == 0) return u < 0.5f ? 1u : 0u;
    return bits_of(x) >> 31;
  }
  HD float value(uint32_t code, float scale) const { return with_sign(scale, code != 0); }
};

}  // namespace ringfort::quantizers
