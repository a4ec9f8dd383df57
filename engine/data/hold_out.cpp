// Every sample draws a 64-bit number keyed by its own index; those with the smallest numbers are
// held out.
#include "engine/data/hold_out.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"
#include "kernels/philox.h"

namespace ringfort {

HoldOut split_hold_out(int64_t count, int64_t held_out, uint64_t seed) {
  require(held_out >= 0 && held_out < count,
          "cannot hold out {} of {} training images; give a number from 0 to {}", held_out, count,
          count - 1);
  const RandomKey key{seed, Purpose::kHoldOut, 0};
  std::vector<std::pair<uint64_t, int64_t>>
      draws;  // (random number, sample); the sample breaks ties
  draws.reserve(static_cast<size_t>(count));
  for (int64_t sample = 0; sample < count; ++sample) {
    const Philox4 words = key.words(static_cast<uint64_t>(sample), 0);
    draws.emplace_back(uint64_t{words.word[0]} << 32 | words.word[1], sample);
  }
  const auto middle = draws.begin() + held_out;
  std::nth_element(draws.begin(), middle, draws.end());

  HoldOut split;
  for (auto draw = draws.begin(); draw != middle; ++draw) split.held_out.push_back(draw->second);
  for (auto draw = middle; draw != draws.end(); ++draw) split.training.push_back(draw->second);
  std::sort(split.held_out.begin(), split.held_out.end());
  std::sort(split.training.begin(), split.training.end());
  return split;
}

}  // namespace ringfort
