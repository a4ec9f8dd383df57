#include "kernels/trial_cudnn.h"

#include <cuda_runtime.h>

#include <cmath>

#include "kernels/plans.h"
#include "kernels/slots.h"

namespace ringfort {
namespace {

std::vector<double> first_values(Exec& exec, View view) {
  view.shape.n = std::min<int64_t>(view.shape.n, 2);
  std::vector<std::byte> bytes(static_cast<size_t>(view.bytes()));
  to_host(exec, bytes.data(), view);
  view.data = bytes.data();
  std::vector<double> values(static_cast<size_t>(view.count()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = detail::load_element<double>(view, static_cast<int64_t>(i));
  return values;
}

}  // namespace

void TrialMemory::own(View& view, bool copied) {
  const View given = view;
  memory_.push_back(allocate_on(exec_.device(), view.bytes(), "choosing a plan"));
  view.data = memory_.back().get();
  if (copied) copy_view(exec_, view, given);
}

bool runs(Exec& exec, const std::function<void()>& plan) {
  try {
    plan();
    synchronize(exec);
    return true;
  } catch (const Error&) {
    cudaGetLastError();  // an error that is not sticky ends here
    return false;
  }
}

std::vector<double> time_plans(Exec& exec, const std::vector<std::function<void()>>& plans) {
  constexpr int kCalls = 10;  // a small kernel is shorter than what one event and the next measure
  std::vector<std::function<double()>> turns;
  for (const std::function<void()>& plan : plans)
    turns.emplace_back([&] { return seconds_per_call(exec, kCalls, plan); });
  return time_in_turns(turns);
}

// Coarser than any rounding (bfloat16 keeps 2^-8, TF32 2^-11 of each operand), finer than any
// mistake: of the largest value, as sums cancel.
bool close(Exec& exec, const View& a, const View& b) {
  constexpr double kTolerance = 0x1p-6;
  const std::vector<double> as = first_values(exec, a), bs = first_values(exec, b);
  double largest = 0, worst = 0;
  for (size_t i = 0; i < as.size(); ++i) {
    largest = std::max(largest, std::abs(bs[i]));
    const double error = std::abs(as[i] - bs[i]);
    if (!std::isfinite(error)) return false;
    worst = std::max(worst, error);
  }
  return worst <= kTolerance * largest;
}

bool marks(Exec& exec, const View& mask, const View& of) {
  const std::vector<double> bits = first_values(exec, mask), numbers = first_values(exec, of);
  for (size_t i = 0; i < bits.size(); ++i)
    if ((bits[i] != 0) != (numbers[i] > 0)) return false;
  return true;
}

}  // namespace ringfort
