#include "distributed/ring.h"

#include <algorithm>

#include "kernels/error.h"

namespace ringfort {

RingPlan ring_plan(int rank, int ranks) {
  require(ranks >= 1 && rank >= 0 && rank < ranks, "ring: there is no rank {} among {}", rank,
          ranks);
  const auto segment = [&](int number) { return ((number % ranks) + ranks) % ranks; };
  RingPlan plan{segment(rank + 1), segment(rank - 1), segment(rank + 1), {}, {}};
  for (int step = 0; step + 1 < ranks; ++step) {
    plan.reduce_scatter.push_back({segment(rank - step), segment(rank - step - 1)});
    plan.all_gather.push_back({segment(rank - step + 1), segment(rank - step)});
  }
  return plan;
}

std::vector<int64_t> balanced_cuts(const std::vector<int64_t>& ends, int parts) {
  require(parts >= 1, "cannot cut into {} parts", parts);
  const int64_t total = ends.empty() ? 0 : ends.back();
  std::vector<int64_t> cuts = {0};
  for (int part = 1; part < parts; ++part) {
    // The first end that is not below the part's share, or the one before where that is nearer.
    const int64_t target = total / parts * part + total % parts * part / parts;
    auto at = std::lower_bound(ends.begin(), ends.end(), target) - ends.begin();
    const int64_t below = at > 0 ? ends[static_cast<size_t>(at) - 1] : 0;
    if (at < std::ssize(ends) && ends[static_cast<size_t>(at)] - target < target - below) ++at;
    cuts.push_back(std::max<int64_t>(cuts.back(), at));
  }
  cuts.push_back(std::ssize(ends));
  return cuts;
}

}  // namespace ringfort
