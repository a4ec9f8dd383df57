// Schedules of learning rate and momentum, as functions of the step: no state, so a resumed run
// needs none.
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
  // lr / div_factor -> lr at `peak` -> lr / div_factor / final_div_factor, along half cosines:
  // PyTorch's OneCycleLR (Smith and Topin 2017)
  kOneCycle,
  // min_lr + (lr - min_lr) (1 - share)^power of what follows the warm-up, as LARS and LAMB are run
  kPolynomial,
};

struct Schedule {
  ScheduleKind kind = ScheduleKind::kConstant;
  double lr = 0.1;
  int64_t total_steps = 1;
  // Over the first steps the schedule's rate is scaled by a factor that rises linearly to 1. The
  // schedule's clock runs from step 0 (that of kPolynomial from the end of the warm-up), so a
  // warm-up only ever lowers a rate, and nothing jumps where it ends.
  int64_t warmup_steps = 0;
  double peak = 0.4;               // share of training, in (0, 1)
  std::vector<double> milestones;  // shares of training, ascending
  double decay_rate = 0.1;
  double min_lr = 0;
  double div_factor = 25, final_div_factor = 1e4;
  double power = 2;
  double momentum = 0.9;
  // What momentum has come down to where a cyclic or one-cycle rate peaks, by the same curve; 0: it
  // stays. PyTorch's CyclicLR cycles it by default, 0.9 -> 0.8 -> 0.9, which several published
  // recipes do without saying so.
  double low_momentum = 0;
};

// Of step `step` in [0, total_steps).
double learning_rate(const Schedule& schedule, int64_t step);
double momentum(const Schedule& schedule, int64_t step);

// The share a of the old in average <- a average + (1 - a) w at step `step`, from 0: 0 over the
// first `warmup_steps`, then min(decay, (1 + step) / (10 + step)) (Gowal et al. 2020).
double averaging(double decay, int64_t warmup_steps, int64_t step);

}  // namespace ringfort
