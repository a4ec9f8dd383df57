// The stopwatch of a training step.
#include "kernels/phase_clock.h"

#include <catch2/catch.hpp>
#include <numeric>

#include "tests/testing.h"

namespace ringfort {

using testing::Buffer;

TEST_CASE("phases take all the time between the first mark and the last") {
  Exec exec(kTestDevice);
  const Buffer clock(Dtype::kInt64, vector_shape(PhaseClock::kCount),
                     std::vector<double>(PhaseClock::kCount, 0));
  const auto mark = [&](int64_t phase) {
    begin_phase(exec, clock, phase);
    const std::vector<double> now = clock.values();
    CHECK(now[1] == static_cast<double>(phase));
    return now;
  };
  mark(0);
  const double started = mark(2)[0];
  mark(1);
  mark(2);
  mark(4);
  const std::vector<double> ended = mark(0);
  const auto phases = ended.begin() + 2;
  CHECK(std::accumulate(phases, ended.end(), 0.0) == Approx(ended[0] - started).epsilon(1e-12));
  for (const int64_t phase : {1, 2, 4}) CHECK(phases[phase - 1] > 0);
  CHECK(phases[2] == 0);  // phase 3 never ran
  // What passes outside of all phases counts for none.
  const std::vector<double> later = mark(3);
  CHECK(std::vector<double>(later.begin() + 2, later.end()) ==
        std::vector<double>(phases, ended.end()));
}

TEST_CASE("a clock has the phases that it has") {
  Exec exec(kTestDevice);
  const Buffer clock(Dtype::kInt64, vector_shape(PhaseClock::kCount),
                     std::vector<double>(PhaseClock::kCount, 0));
  CHECK_THROWS_AS(begin_phase(exec, clock, PhaseClock::kPhases + 1), Error);
  CHECK_THROWS_AS(begin_phase(exec, clock, -1), Error);
}

}  // namespace ringfort
