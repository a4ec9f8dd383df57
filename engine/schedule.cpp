#include "engine/schedule.h"

#include <cmath>
#include <numbers>

#include "kernels/error.h"

namespace ringfort {
namespace {

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
    case ScheduleKind::kCyclic: {
      require(s.peak > 0 && s.peak < 1,
              "schedule: a cyclic rate peaks inside (0, 1) of training, not at {}", s.peak);
      const double share = (at + 0.5) / total;
      return s.lr * (share < s.peak ? share / s.peak : (1 - share) / (1 - s.peak));
    }
    case ScheduleKind::kCosine:
      return s.min_lr + (s.lr - s.min_lr) * 0.5 * (1 + std::cos(std::numbers::pi * at / total));
  }
  return s.lr;
}

}  // namespace

double learning_rate(const Schedule& s, int64_t step) {
  require(step >= 0 && step < s.total_steps, "schedule: step {} of {} steps", step, s.total_steps);
  const auto at = static_cast<double>(step);
  const double rate = scheduled(s, at);
  return step < s.warmup_steps ? rate * (at + 1) / static_cast<double>(s.warmup_steps) : rate;
}

}  // namespace ringfort
