#include "kernels/phase_clock.h"

#include <chrono>

#include "kernels/error.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

// Of a clock that never goes back.
HD inline int64_t nanoseconds_now() {
#ifdef __CUDA_ARCH__
  int64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
#else
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
#endif
}

struct BeginPhase {
  PhaseClock* clock;
  int64_t phase;
  HD void operator()(int64_t) const {
    const int64_t now = nanoseconds_now();
    if (clock->phase > 0) clock->nanoseconds[clock->phase - 1] += now - clock->since;
    clock->since = now;
    clock->phase = phase;
  }
};

}  // namespace

void begin_phase(Exec& exec, View clock, int64_t phase) {
  require(clock.count() == PhaseClock::kCount && phase >= 0 && phase <= PhaseClock::kPhases,
          "begin_phase: a clock of {} numbers has no phase {}", clock.count(), phase);
  for_each(exec, 1, 1, BeginPhase{clock.as<PhaseClock>(), phase});
}

}  // namespace ringfort
