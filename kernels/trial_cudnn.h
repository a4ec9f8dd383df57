// Trying a library's plan: outputs of its own, so that the caller's hold what they held, and
// whether it gives what kernels of ours give.
#pragma once

#include <functional>
#include <vector>

#include "kernels/device_memory.h"

namespace ringfort {

// Memory of outputs, as long as it lives.
class TrialMemory {
 public:
  explicit TrialMemory(Exec& exec) : exec_(exec) {}
  // From now on the view has memory of its own, with what it held if `copied`.
  void own(View& view, bool copied = false);

 private:
  Exec& exec_;
  std::vector<DeviceMemory> memory_;
};

// Runs `plan` once and waits; false, and the device is as it was, where it cannot be run here: an
// engine that refuses, or whose workspace does not fit.
bool runs(Exec& exec, const std::function<void()>& plan);

// Microseconds of one run of each plan, several back to back.
std::vector<double> time_plans(Exec& exec, const std::vector<std::function<void()>>& plans);

// Whether a and b are equal up to rounding, by their first two samples: enough to see that a kernel
// computes something else.
bool close(Exec& exec, const View& a, const View& b);

// Whether mask says where `of` is positive, by the first two samples.
bool marks(Exec& exec, const View& mask, const View& of);

}  // namespace ringfort
