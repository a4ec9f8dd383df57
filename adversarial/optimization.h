// What a recipe says of optimizer and schedules.
#pragma once

#include "adversarial/recipe.h"
#include "adversarial/training_step.h"
#include "engine/schedule.h"

namespace ringfort {

// Errors: an unknown optimizer or schedule lists the known ones.
OptimizerOptions make_optimizer(const Recipe& recipe);

// Whether what a step left out of a gradient may be added to the next: not where the square of a
// gradient counts.
bool feedback_is_sound(const Recipe& recipe);

// lr as it is for the recipe's batch size: lr_base_size resolved (Goyal et al. 2017).
double peak_lr(const Recipe& recipe);

// All that changes from step to step.
class StepSchedule {
 public:
  StepSchedule() = default;
  // Errors: a warm-up as long as training.
  StepSchedule(const Recipe& recipe, int64_t total_steps, int64_t steps_per_epoch);

  // Of step `step`, from 0.
  StepOptions at(int64_t step) const;
  double lr(int64_t step) const { return learning_rate(schedule_, step); }

 private:
  Schedule schedule_;
  double ema_decay_ = 0;
  int64_t ema_warmup_steps_ = 0, awp_from_ = 0;
};

}  // namespace ringfort
