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

// Times `calls` calls of fn together, from an idle device until the device has done them.
Timed timed(Exec& exec, std::function<void()> fn, int calls = 1);

// Calls of about `seconds` altogether, at least 1, by one trial after one call to warm up.
int calls_lasting(Exec& exec, double seconds, const std::function<void()>& fn);

double median(std::vector<double> values);

// Every function once per round; medians over the rounds, in the order of the functions. Nothing is
// warmed up here.
std::vector<double> medians_in_turns(int rounds, const std::vector<Timed>& functions);

// Copies from one buffer to another: on the CPU each thread its part by the C library's memcpy, on
// a GPU within its memory by the driver's copy.
class MemoryCopy {
 public:
  // moved: bytes read plus bytes written by one run.
  MemoryCopy(Exec& exec, Pool& pool, int64_t moved);
  void run();
  int64_t moved() const { return 2 * from_.view().bytes(); }

 private:
  Exec& exec_;
  Tensor from_, to_;
};

// A tensor on the pool's device of uniform numbers in (low, high), float32 or bfloat16.
Tensor random_tensor(Exec& exec, Pool& pool, const Shape& shape, Dtype dtype,
                     Layout layout = Layout::kChannelsLast, float low = -1, float high = 1);

// 0, 1, 2, ... modulo `classes`: labels (int32); and 0, 1, 2, ...: sample numbers (int64).
Tensor cyclic_labels(Exec& exec, Pool& pool, int64_t count, int64_t classes);
Tensor sample_numbers(Exec& exec, Pool& pool, int64_t count);

// Seconds that the host needs to queue one call on an idle device.
double host_seconds(Exec& exec, const std::function<void()>& fn);

}  // namespace ringfort::bench
