#include "engine/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/error.h"

namespace ringfort {
namespace {

// from -> to along half a cosine, share in [0, 1].
double anneal(double from, double to, double share) {
  return to + (from - to) * 0.5 * (1 + std::cos(std::numbers::pi * share));
}

void require_peak(const Schedule& s) {
  require(s.peak > 0 && s.peak < 1,
          "schedule: a cyclic rate peaks inside (0, 1) of training, not at {}", s.peak);
}

// Of a cyclic rate: how high it is, in [0, 1].
double height(const Schedule& s, double at) {
  const double share = (at + 0.5) / static_cast<double>(s.total_steps);
  return share < s.peak ? share / s.peak : (1 - share) / (1 - s.peak);
}

// Of one cycle: start -> top -> end, which the first and the last step have.
double one_cycle(const Schedule& s, double at, double start, double top, double end) {
  const double last = static_cast<double>(s.total_steps) - 1;
  const double turn = std::max(0.0, s.peak * static_cast<double>(s.total_steps) - 1);
  if (at < turn) return anneal(start, top, at / turn);
  return last > turn ? anneal(top, end, (at - turn) / (last - turn)) : top;
}

double scheduled(const Schedule& s, double at) {
  const auto total = static_cast<double>(s.total_steps);
  switch (s.kind) {
    case ScheduleKind::kConstant:
      return s.lr;
    case ScheduleKind::kPiecewise: {
      double lr = s.lr;
      for (const double milestone : s.milestones)
        if (at >= milestone * total) lr *= s.decay_rate;
      return lr;
    }
    case ScheduleKind::kCyclic:
      require_peak(s);
      return s.lr * height(s, at);
    case ScheduleKind::kCosine:
      return anneal(s.lr, s.min_lr, at / total);
    case ScheduleKind::kOneCycle: {
      require_peak(s);
      const double start = s.lr / s.div_factor;
      return one_cycle(s, at, start, s.lr, start / s.final_div_factor);
    }
    case ScheduleKind::kPolynomial: {
      const auto warmup = static_cast<double>(s.warmup_steps);
      const double share = std::max(0.0, at - warmup) / (total - warmup);
      return s.min_lr + (s.lr - s.min_lr) * std::pow(1 - share, s.power);
    }
  }
  return s.lr;
}

void require_step(const Schedule& s, int64_t step) {
  require(step >= 0 && step < s.total_steps, "schedule: step {} of {} steps", step, s.total_steps);
}

}  // namespace

double learning_rate(const Schedule& s, int64_t step) {
  require_step(s, step);
  const auto at = static_cast<double>(step);
  const double rate = scheduled(s, at);
  return step < s.warmup_steps ? rate * (at + 1) / static_cast<double>(s.warmup_steps) : rate;
}

double momentum(const Schedule& s, int64_t step) {
  require_step(s, step);
  const auto at = static_cast<double>(step);
  if (s.low_momentum == 0) return s.momentum;
  if (s.kind == ScheduleKind::kCyclic)
    return s.momentum + (s.low_momentum - s.momentum) * height(s, at);
  if (s.kind == ScheduleKind::kOneCycle)
    return one_cycle(s, at, s.momentum, s.low_momentum, s.momentum);
  return s.momentum;
}

double averaging(double decay, int64_t warmup_steps, int64_t step) {
  if (step < warmup_steps) return 0;
  const auto at = static_cast<double>(step);
  return std::min(decay, (1 + at) / (10 + at));
}

}  // namespace ringfort
