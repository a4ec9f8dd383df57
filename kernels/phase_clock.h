// A stopwatch on the device: marks are queued like kernels, so that they tell what the device did
// when, recorded graphs included, and nobody waits for them.
#pragma once

#include "kernels/exec.h"
#include "kernels/view.h"

namespace ringfort {

// int64 on the device, in this order. All zeros: nothing was measured, no phase runs.
struct PhaseClock {
  static constexpr int64_t kPhases = 4;
  static constexpr int64_t kCount = 2 + kPhases;

  int64_t since = 0;                  // when the phase began, nanoseconds of the device's clock
  int64_t phase = 0;                  // that runs, from 1; 0: none
  int64_t nanoseconds[kPhases] = {};  // of phases 1, 2, ... so far, without the one that runs
};

// From here on time counts for `phase`, from 1; 0: for none. clock: kCount int64 (PhaseClock).
void begin_phase(Exec& exec, View clock, int64_t phase);

}  // namespace ringfort
