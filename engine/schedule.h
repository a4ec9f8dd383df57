// Learning-rate schedules, as functions of the step: no state, so a resumed run needs none.
#pragma once

#include <cstdint>
#include <vector>

namespace ringfort {

enum class ScheduleKind {
  kConstant,
  kPiecewise,  // times decay_rate at each milestone
  kCyclic,     // linear 0 -> lr at `peak` of training -> 0, evaluated in the middle of a step's
               // interval
  kCosine,     // lr -> min_lr along half a cosine
};

struct Schedule {
  ScheduleKind kind = ScheduleKind::kConstant;
  double lr = 0.1;
  int64_t total_steps = 1;
  // Over the first steps the schedule's rate is scaled by a factor that rises linearly to 1. The
  // schedule's clock runs from step 0, so a warm-up only ever lowers a rate, and nothing jumps
  // where it ends.
  int64_t warmup_steps = 0;
  double peak = 0.4;               // share of training, in (0, 1)
  std::vector<double> milestones;  // shares of training, ascending
  double decay_rate = 0.1;
  double min_lr = 0;
};

// The rate of step `step` in [0, total_steps).
double learning_rate(const Schedule& schedule, int64_t step);

}  // namespace ringfort
