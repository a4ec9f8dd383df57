// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy as
// 1, 2, 3" (SC 2011). A random number is a pure function of (seed, purpose, epoch, sample,
// element): it depends neither on the number of threads nor on how samples are split into batches
// or ranks. There is no generator state anywhere in Ringfort.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/hd.h"

namespace ringfort {

struct Philox4 {
  uint32_t word[4];
};

inline constexpr int kPhiloxRounds = 10;
inline constexpr uint32_t kPhiloxMul0 = 0xD2511F53u, kPhiloxMul1 = 0xCD9E8D57u;
inline constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u, kPhiloxWeyl1 = 0xBB67AE85u;

HD inline Philox4 philox4x32_10(Philox4 counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = uint64_t{kPhiloxMul0} * counter.word[0];
    const uint64_t p1 = uint64_t{kPhiloxMul1} * counter.word[2];
    counter = {{static_cast<uint32_t>(p1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(p1),
                static_cast<uint32_t>(p0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<uint32_t>(p0)}};
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return counter;
}

// What a stream of random numbers is for; streams of different purposes never overlap.
enum class Purpose : uint32_t {
  kInit = 1,
  kOrder,
  kAugment,
  kAttackStart,
  kHoldOut,
  kTest,
  kImageCrop,
  kDropout,
  kMixup,
  kCompress,
  kPseudoOrder
};

struct RandomKey {
  uint64_t seed = 0;
  Purpose purpose = Purpose::kTest;
  uint32_t epoch = 0;  // epoch, restart or step: whatever repeats for the same sample
  // Where not null, the epoch is what stands there when a kernel runs: a recorded kernel sees each
  // epoch's own.
  const uint32_t* epoch_at = nullptr;

  HD Philox4 counter(uint64_t sample, uint32_t block) const {
    const uint32_t now = epoch_at != nullptr ? *epoch_at : epoch;
    const uint32_t tag = (static_cast<uint32_t>(purpose) << 24) ^ (now & 0x00FFFFFFu);
    return {{block, static_cast<uint32_t>(sample), static_cast<uint32_t>(sample >> 32), tag}};
  }
  // Four words for `block` (elements 4*block .. 4*block+3) of `sample`, the sample's index in its
  // data set.
  HD Philox4 words(uint64_t sample, uint32_t block) const {
    return philox4x32_10(counter(sample, block), static_cast<uint32_t>(seed),
                         static_cast<uint32_t>(seed >> 32));
  }
  HD uint32_t word(uint64_t sample, uint32_t element) const {
    return words(sample, element / 4).word[element % 4];
  }
};

// Uniform in (0, 1), symmetric about 1/2, never 0 or 1: safe for logarithms and for U(-eps, eps).
HD inline float uniform01(uint32_t word) {
  // exact, fused or not
  return static_cast<float>(word >> 9) * (1.0f / 8388608.0f) + 0.5f / 8388608.0f;
}

}  // namespace ringfort
