// Splits a training set into the images trained on and the images held out, on which checkpoints
// are selected. The choice depends on the seed, the counts and nothing else: not on order, batches,
// threads or ranks.
#pragma once

#include <cstdint>
#include <vector>

namespace ringfort {

struct HoldOut {
  std::vector<int64_t> training;  // indices in the data set, ascending
  std::vector<int64_t> held_out;  // indices in the data set, ascending; disjoint from training
};

// Holds out `held_out` of `count` samples, uniformly chosen; 0 <= held_out < count. For one seed
// and count, a smaller hold-out is a part of a larger one.
HoldOut split_hold_out(int64_t count, int64_t held_out, uint64_t seed);

}  // namespace ringfort
