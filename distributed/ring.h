// The plan of a ring all-reduce: who sends which segment when. Indices only, so that it can be
// looked at and tested without moving anything.
//
// Ranks stand in a ring; each sends to the next and receives from the one before. Reduce-scatter:
// in n - 1 steps every segment goes once around, each rank adding its own share; then rank r owns
// the sum of segment r + 1. All-gather: in n - 1 steps the sums go around unchanged.
#pragma once

#include <cstdint>
#include <vector>

namespace ringfort {

struct RingStep {
  int send = 0, receive = 0;  // segments
};

struct RingPlan {
  int to = 0, from = 0;  // neighbours
  int owned = 0;         // the segment whose sum this rank completes
  std::vector<RingStep> reduce_scatter, all_gather;
};

// Errors: a rank that is not in [0, ranks).
RingPlan ring_plan(int rank, int ranks);

// Where to cut items with these costs into `parts` runs of about equal cost: parts + 1 numbers of
// items, from 0 to their number; runs may be empty.
// ends: ends[i] is the cost of items 0 ... i.
std::vector<int64_t> balanced_cuts(const std::vector<int64_t>& ends, int parts);

}  // namespace ringfort
