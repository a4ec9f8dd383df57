// Hash of a look-up key made of integers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ringfort {

struct ArrayHash {
  template <size_t kSize>
  size_t operator()(const std::array<int64_t, kSize>& values) const {
    uint64_t hash = 0;
    for (const int64_t value : values) {  // splitmix64 of each value, chained
      hash += static_cast<uint64_t>(value) + 0x9E3779B97F4A7C15u;
      hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9u;
      hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBu;
      hash ^= hash >> 31;
    }
    return hash;
  }
};

}  // namespace ringfort
