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

// PyTorch 2.15's OneCycleLR(max_lr=0.2, total_steps=10, pct_start=0.3, div_factor=25,
// final_div_factor=1e4, base_momentum=0.85, max_momentum=0.95).
TEST_CASE("One cycle is PyTorch's, momentum included", "[schedule]") {
  Schedule schedule = schedule_of(ScheduleKind::kOneCycle, 10);
  schedule.peak = 0.3;
  schedule.momentum = 0.95;
  schedule.low_momentum = 0.85;
  const std::vector<double> rates = {
      0.008,          0.104,           0.2,           0.190096926403,   0.16234913079,
      0.122252404387, 0.0777483956127, 0.03765166921, 0.00990387359731, 8e-07};
  const std::vector<double> momenta = {0.95,           0.9,
                                       0.85,           0.854951556605,
                                       0.868825509907, 0.888873953302,
                                       0.911126046698, 0.931174490093,
                                       0.945048443395, 0.95};
  for (int64_t step = 0; step < 10; ++step) {
    CHECK(learning_rate(schedule, step) == Approx(rates[static_cast<size_t>(step)]).epsilon(1e-9));
    CHECK(momentum(schedule, step) == Approx(momenta[static_cast<size_t>(step)]).epsilon(1e-9));
  }
  schedule.low_momentum = 0;
  for (int64_t step = 0; step < 10; ++step) CHECK(momentum(schedule, step) == 0.95);
}

TEST_CASE("One cycle in a training of a single step is at its top", "[schedule]") {
  CHECK(learning_rate(schedule_of(ScheduleKind::kOneCycle, 1), 0) == 0.2);
}

TEST_CASE("Momentum cycles against a cyclic rate and stays under others", "[schedule]") {
  Schedule schedule = schedule_of(ScheduleKind::kCyclic, 1000);
  schedule.low_momentum = 0.8;
  for (const int64_t step : {0, 200, 399, 400, 700, 999})
    CHECK(momentum(schedule, step) ==
          Approx(0.9 - 0.1 * learning_rate(schedule, step) / 0.2).epsilon(1e-12));
  schedule.kind = ScheduleKind::kCosine;
  CHECK(momentum(schedule, 500) == 0.9);
}

TEST_CASE("A polynomial rate falls to its end by its power", "[schedule]") {
  Schedule schedule = schedule_of(ScheduleKind::kPolynomial, 8);
  schedule.min_lr = 0.04;
  CHECK(learning_rate(schedule, 0) == 0.2);
  CHECK(learning_rate(schedule, 4) == Approx(0.04 + 0.16 * 0.25));
  schedule.warmup_steps = 4;  // up to the peak, then the same way down in what is left
  CHECK(learning_rate(schedule, 0) == Approx(0.05));
  CHECK(learning_rate(schedule, 3) == 0.2);
  CHECK(learning_rate(schedule, 4) == 0.2);
  CHECK(learning_rate(schedule, 6) == Approx(0.04 + 0.16 * 0.25));
  schedule.warmup_steps = 0;
  schedule.power = 1;
  CHECK(learning_rate(schedule, 6) == Approx(0.04 + 0.16 * 0.25));
}

TEST_CASE("The average follows the weights at first and forgets ever more slowly", "[schedule]") {
  for (int64_t step = 0; step < 5; ++step) CHECK(averaging(0.995, 5, step) == 0);
  CHECK(averaging(0.995, 5, 5) == 6.0 / 15);
  CHECK(averaging(0.995, 0, 0) == 0.1);
  CHECK(averaging(0.995, 5, 100000) == 0.995);
  CHECK(averaging(0, 0, 100) == 0);
}

}  // namespace ringfort
