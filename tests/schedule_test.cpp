// Learning-rate schedules against their closed forms: ends, peak, milestones, warm-up.
#include "engine/schedule.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

namespace ringfort {
namespace {

Schedule schedule_of(ScheduleKind kind, int64_t steps) {
  Schedule schedule;
  schedule.kind = kind;
  schedule.lr = 0.2;
  schedule.total_steps = steps;
  return schedule;
}

}  // namespace

TEST_CASE("A constant rate is constant", "[schedule]") {
  const Schedule schedule = schedule_of(ScheduleKind::kConstant, 10);
  for (int64_t step = 0; step < 10; ++step) CHECK(learning_rate(schedule, step) == 0.2);
}

TEST_CASE("A cyclic rate rises to its peak, falls to 0, and averages lr / 2", "[schedule]") {
  const int64_t steps = 1000;
  const Schedule schedule = schedule_of(ScheduleKind::kCyclic, steps);
  double sum = 0;
  int64_t best = 0;
  for (int64_t step = 0; step < steps; ++step) {
    const double lr = learning_rate(schedule, step);
    CHECK(lr > 0);
    sum += lr;
    if (lr > learning_rate(schedule, best)) best = step;
  }
  // In the middle of a step's interval: the ends are half a step's change away from 0, the peak,
  // at step 400's beginning, from lr.
  CHECK(learning_rate(schedule, 0) == Approx(0.2 * 0.5 / 400).epsilon(1e-12));
  CHECK(learning_rate(schedule, 199) == Approx(0.2 * 199.5 / 400).epsilon(1e-12));
  CHECK(learning_rate(schedule, 400) == Approx(0.2 * (1 - 0.5 / 600)).epsilon(1e-12));
  CHECK(learning_rate(schedule, steps - 1) == Approx(0.2 * 0.5 / 600).epsilon(1e-12));
  CHECK(best == 400);
  // The midpoint rule is exact on both straight parts.
  CHECK(sum / steps == Approx(0.1).epsilon(1e-12));
}

TEST_CASE("The peak of a cyclic rate can be moved, but not out of training", "[schedule]") {
  Schedule schedule = schedule_of(ScheduleKind::kCyclic, 101);
  schedule.peak = 50.5 / 101;  // the middle of step 50
  CHECK(learning_rate(schedule, 50) == Approx(0.2).epsilon(1e-12));
  CHECK(learning_rate(schedule, 49) == Approx(learning_rate(schedule, 51)).epsilon(1e-12));
  for (const double peak : {0.0, 1.0, -0.5}) {
    schedule.peak = peak;
    CHECK_THROWS_WITH(learning_rate(schedule, 3), Catch::Contains("peaks inside (0, 1)"));
  }
}

TEST_CASE("A piecewise rate falls at its milestones", "[schedule]") {
  Schedule schedule = schedule_of(ScheduleKind::kPiecewise, 200);
  schedule.milestones = {0.5, 0.75};
  for (const auto& [step, factor] :
       {std::pair{0, 1.0}, {99, 1.0}, {100, 0.1}, {149, 0.1}, {150, 0.01}, {199, 0.01}})
    CHECK(learning_rate(schedule, step) == Approx(0.2 * factor).epsilon(1e-12));
  schedule.decay_rate = 0.5;
  CHECK(learning_rate(schedule, 150) == Approx(0.05).epsilon(1e-12));
}

TEST_CASE("A cosine rate runs from lr to min_lr", "[schedule]") {
  Schedule schedule = schedule_of(ScheduleKind::kCosine, 100);
  schedule.min_lr = 0.02;
  CHECK(learning_rate(schedule, 0) == Approx(0.2).epsilon(1e-12));
  CHECK(learning_rate(schedule, 50) == Approx(0.11).epsilon(1e-12));
  // a third of the way: cos(pi / 3) = 1/2
  schedule.total_steps = 99;
  CHECK(learning_rate(schedule, 33) == Approx(0.02 + 0.18 * 0.75).epsilon(1e-12));
  CHECK(learning_rate(schedule, 98) - 0.02 == Approx(0).margin(0.18 * 3e-4));
  for (int64_t step = 1; step < 99; ++step)
    CHECK(learning_rate(schedule, step) < learning_rate(schedule, step - 1));
}

TEST_CASE("Warm-up rises in equal steps to lr while the schedule's clock runs", "[schedule]") {
  Schedule schedule = schedule_of(ScheduleKind::kPiecewise, 100);
  schedule.milestones = {0.5};
  schedule.warmup_steps = 4;
  for (int64_t step = 0; step < 4; ++step)
    CHECK(learning_rate(schedule, step) ==
          Approx(0.05 * static_cast<double>(step + 1)).epsilon(1e-12));
  CHECK(learning_rate(schedule, 4) == 0.2);
  CHECK(learning_rate(schedule, 49) == 0.2);
  CHECK(learning_rate(schedule, 50) == Approx(0.02).epsilon(1e-12));
}

TEST_CASE("Warm-up scales any schedule up to its own rate and then leaves it alone", "[schedule]") {
  for (const ScheduleKind kind : {ScheduleKind::kConstant, ScheduleKind::kPiecewise,
                                  ScheduleKind::kCyclic, ScheduleKind::kCosine}) {
    Schedule cold = schedule_of(kind, 100);
    cold.milestones = {0.1, 0.6};
    cold.min_lr = 0.01;
    for (const int64_t warmup_steps : {1, 15, 60, 99}) {  // before and after a cyclic rate's peak
      Schedule warm = cold;
      warm.warmup_steps = warmup_steps;
      for (int64_t step = 0; step < 100; ++step) {
        const double rise =
            std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(warmup_steps));
        CHECK(learning_rate(warm, step) == Approx(rise * learning_rate(cold, step)).epsilon(1e-12));
      }
    }
  }
}

TEST_CASE("Steps outside training are refused", "[schedule]") {
  const Schedule schedule = schedule_of(ScheduleKind::kConstant, 10);
  CHECK_THROWS_WITH(learning_rate(schedule, -1), Catch::Contains("step -1"));
  CHECK_THROWS_WITH(learning_rate(schedule, 10), Catch::Contains("step 10 of 10"));
  CHECK_THROWS_WITH(learning_rate(schedule_of(ScheduleKind::kConstant, 0), 0),
                    Catch::Contains("of 0 steps"));
}

}  // namespace ringfort
