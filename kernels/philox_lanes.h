// Philox for a run of consecutive elements of a sample on the CPU: RandomKey's own numbers, many
// counters side by side so that they vectorise.
#pragma once

#include <cstring>

#include "kernels/philox.h"

#if defined(__AVX512F__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

namespace ringfort::detail {

// Blocks of four words computed together.
inline constexpr int kPhiloxBlocks = 16;

#ifndef __CUDACC__

// One 32-bit word of eight counters, each in the low half of its lane; the high halves are noise.
typedef uint64_t PhiloxLanes __attribute__((vector_size(64)));

// 64-bit products of the low halves with a 32-bit factor.
inline void multiply_low(PhiloxLanes& product, const PhiloxLanes& words, uint64_t factor) {
#ifdef __AVX512F__
  // One instruction, which g++ 12 does not find in the line below: it takes a 64-bit product there,
  // several times slower.
  const __m512i factors = _mm512_set1_epi64(static_cast<int64_t>(factor));
  product = reinterpret_cast<PhiloxLanes>(
      _mm512_maskz_mul_epu32(0xFF, reinterpret_cast<__m512i>(words), factors));
#else
  product = (words & 0xFFFFFFFFu) * factor;
#endif
}

// words[4 b + k] = word k of block first_block + b: in the order of the elements.
inline void philox_blocks(const RandomKey& key, uint64_t sample, uint32_t first_block,
                          uint32_t (&words)[4 * kPhiloxBlocks]) {
  constexpr int kGroups = kPhiloxBlocks / 8;
  const Philox4 start = key.counter(sample, first_block);
  PhiloxLanes c0[kGroups], c1[kGroups], c2[kGroups], c3[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    c0[g] = PhiloxLanes{0, 1, 2, 3, 4, 5, 6, 7} +
            (uint64_t{start.word[0]} + 8u * static_cast<unsigned>(g));
    c1[g] = PhiloxLanes{} + start.word[1];
    c2[g] = PhiloxLanes{} + start.word[2];
    c3[g] = PhiloxLanes{} + start.word[3];
  }
  uint64_t key0 = static_cast<uint32_t>(key.seed), key1 = key.seed >> 32;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    for (int g = 0; g < kGroups; ++g) {
      PhiloxLanes p0, p1;
      multiply_low(p0, c0[g], kPhiloxMul0);
      multiply_low(p1, c2[g], kPhiloxMul1);
      c0[g] = (p1 >> 32) ^ c1[g] ^ key0;
      c1[g] = p1;
      c2[g] = (p0 >> 32) ^ c3[g] ^ key1;
      c3[g] = p0;
    }
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  for (int g = 0; g < kGroups; ++g) {
    // Two words of a counter to a lane, then the lanes in the order of the counters.
    const PhiloxLanes w01 = (c0[g] & 0xFFFFFFFFu) | (c1[g] << 32);
    const PhiloxLanes w23 = (c2[g] & 0xFFFFFFFFu) | (c3[g] << 32);
    const PhiloxLanes first = __builtin_shufflevector(w01, w23, 0, 8, 1, 9, 2, 10, 3, 11);
    const PhiloxLanes second = __builtin_shufflevector(w01, w23, 4, 12, 5, 13, 6, 14, 7, 15);
    std::memcpy(words + 32 * g, &first, sizeof first);
    std::memcpy(words + 32 * g + 16, &second, sizeof second);
  }
}

#else  // nvcc does not know vector types; there the CPU is not the backend that counts

HD inline void philox_blocks(const RandomKey& key, uint64_t sample, uint32_t first_block,
                             uint32_t (&words)[4 * kPhiloxBlocks]) {
  for (int b = 0; b < kPhiloxBlocks; ++b) {
    const Philox4 four = key.words(sample, first_block + static_cast<uint32_t>(b));
    for (int k = 0; k < 4; ++k) words[4 * b + k] = four.word[k];
  }
}

#endif

// uniform[i] = uniform01 of element first + i of the sample, i in [0, n) rounded up to a multiple
// of 4 kPhiloxBlocks. REQUIRES: first % 4 == 0.
template <class S>
HD void uniform_run(const RandomKey& key, uint64_t sample, int64_t first, int64_t n, S* uniform) {
  for (int64_t i = 0; i < n; i += 4 * kPhiloxBlocks) {
    alignas(64) uint32_t words[4 * kPhiloxBlocks];
    philox_blocks(key, sample, static_cast<uint32_t>((first + i) / 4), words);
#pragma omp simd
    for (int j = 0; j < 4 * kPhiloxBlocks; ++j)
      uniform[i + j] = static_cast<S>(uniform01(words[j]));
  }
}

}  // namespace ringfort::detail
