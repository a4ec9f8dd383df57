// Measuring on a machine that others use too: everything that is compared runs in turns, round by
// round, and medians are reported. A copy is the yardstick of memory-bound kernels.
#pragma once

#include <functional>
#include <vector>

#include "engine/tensor.h"
#include "kernels/exec.h"

namespace ringfort::bench {

// Runs once and says how many seconds one call took, by its own clock.
using Timed = std::function<double()>;

// Times `calls` calls of fn together.
Timed timed(std::function<void()> fn, int calls = 1);

// Calls of about `seconds` altogether, at least 1, by one trial after one call to warm up.
int calls_lasting(double seconds, const std::function<void()>& fn);

double median(std::vector<double> values);

// Every function once per round; medians over the rounds, in the order of the functions. Nothing is
// warmed up here.
std::vector<double> medians_in_turns(int rounds, const std::vector<Timed>& functions);

// Copies from one buffer to another, each thread its part, by the C library's memcpy.
class MemoryCopy {
 public:
  // moved: bytes read plus bytes written by one run.
  MemoryCopy(Exec& exec, Pool& pool, int64_t moved);
  void run();
  int64_t moved() const { return 2 * from_.view().bytes(); }

 private:
  int threads_;
  Tensor from_, to_;
};

// A tensor of uniform numbers in (low, high), float32 or bfloat16.
Tensor random_tensor(Exec& exec, Pool& pool, const Shape& shape, Dtype dtype,
                     Layout layout = Layout::kChannelsLast, float low = -1, float high = 1);

}  // namespace ringfort::bench
