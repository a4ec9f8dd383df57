#include "adversarial/optimization.h"

#include <cmath>

namespace ringfort {
namespace {

OptimizerKind parse_optimizer(const std::string& name) {
  if (name == "sgd") return OptimizerKind::kSgd;
  if (name == "lars") return OptimizerKind::kLars;
  if (name == "adam") return OptimizerKind::kAdam;
  if (name == "adamw") return OptimizerKind::kAdamW;
  if (name == "lamb") return OptimizerKind::kLamb;
  fail("there is no optimizer '{}'; known are sgd, lars, adam, adamw, lamb", name);
}

bool is_adaptive(OptimizerKind kind) {
  return kind != OptimizerKind::kSgd && kind != OptimizerKind::kLars;
}

ScheduleKind parse_schedule(const std::string& name) {
  if (name == "constant") return ScheduleKind::kConstant;
  if (name == "piecewise") return ScheduleKind::kPiecewise;
  if (name == "cyclic") return ScheduleKind::kCyclic;
  if (name == "cosine") return ScheduleKind::kCosine;
  if (name == "one-cycle") return ScheduleKind::kOneCycle;
  if (name == "polynomial") return ScheduleKind::kPolynomial;
  fail(
      "there is no schedule '{}'; known are constant, piecewise, cyclic, cosine, one-cycle, "
      "polynomial",
      name);
}

// What the sources add to the norms they divide by.
double source_eps(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kLamb:
      return 1e-6;
    case OptimizerKind::kSgd:
    case OptimizerKind::kLars:
      return 0;
    default:
      return 1e-8;
  }
}

int64_t steps_in(double epochs, int64_t steps_per_epoch) {
  return static_cast<int64_t>(epochs * static_cast<double>(steps_per_epoch));
}

}  // namespace

OptimizerOptions make_optimizer(const Recipe& recipe) {
  OptimizerOptions options;
  options.kind = parse_optimizer(recipe.opt);
  options.nesterov = recipe.nesterov;
  options.weight_decay = recipe.weight_decay;
  options.decay_all = recipe.decay_all;
  options.clip_grad = recipe.clip_grad;
  require(recipe.opt_betas.size() == 2, "opt-betas: {} numbers; give two, as in 0.9, 0.999",
          recipe.opt_betas.size());
  options.second_beta = recipe.opt_betas[1];
  options.eps = recipe.opt_eps > 0 ? recipe.opt_eps : source_eps(options.kind);
  options.bias_correction = recipe.bias_correction;
  options.trust_coefficient = recipe.trust_coefficient;
  options.trust_all = recipe.trust_all;
  options.trust_clip = recipe.trust_clip;
  options.average = recipe.ema_decay > 0;
  return options;
}

bool feedback_is_sound(const Recipe& recipe) { return !is_adaptive(parse_optimizer(recipe.opt)); }

double peak_lr(const Recipe& recipe) {
  if (recipe.lr_base_size == 0) return recipe.lr;
  const double ratio =
      static_cast<double>(recipe.batch_size) / static_cast<double>(recipe.lr_base_size);
  return recipe.lr * (recipe.lr_base_scale == "sqrt" ? std::sqrt(ratio) : ratio);
}

StepSchedule::StepSchedule(const Recipe& recipe, int64_t total_steps, int64_t steps_per_epoch) {
  schedule_.kind = parse_schedule(recipe.sched);
  schedule_.lr = peak_lr(recipe);
  schedule_.total_steps = total_steps;
  schedule_.warmup_steps = steps_in(recipe.warmup_epochs, steps_per_epoch);
  schedule_.peak = recipe.sched_peak;
  schedule_.milestones = recipe.decay_milestones;
  schedule_.decay_rate = recipe.decay_rate;
  schedule_.min_lr = recipe.min_lr;
  schedule_.div_factor = recipe.div_factor;
  schedule_.final_div_factor = recipe.final_div_factor;
  schedule_.power = recipe.sched_power;
  schedule_.momentum =
      is_adaptive(parse_optimizer(recipe.opt)) ? recipe.opt_betas.at(0) : recipe.momentum;
  schedule_.low_momentum = recipe.low_momentum;
  require(schedule_.warmup_steps < total_steps,
          "train: warm-up takes {} steps and training only {}; lower --warmup-epochs (now {}) or "
          "train longer",
          schedule_.warmup_steps, total_steps, recipe.warmup_epochs);
  ema_decay_ = recipe.ema_decay;
  ema_warmup_steps_ = static_cast<int64_t>(recipe.ema_warmup * static_cast<double>(total_steps));
  awp_from_ = steps_in(recipe.awp_warmup, steps_per_epoch);
}

StepOptions StepSchedule::at(int64_t step) const {
  return {{.lr = lr(step),
           .momentum = momentum(schedule_, step),
           .averaging = averaging(ema_decay_, ema_warmup_steps_, step)},
          step >= awp_from_,
          step};
}

}  // namespace ringfort
