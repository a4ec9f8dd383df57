// Scratch memory that is only lent, and times of calls.
#include <catch2/catch.hpp>

#include "kernels/device_memory.h"
#include "tests/test_device.h"

namespace ringfort {

TEST_CASE("A trial has scratch memory of its own and leaves what was there") {
  Exec exec(kTestDevice, 1);
  constexpr int64_t kBytes = 4096;
  void* const before = exec.scratch(kBytes);
  {
    const TrialScratch trial(exec);
    void* const tried = exec.scratch(256 * kBytes);
    CHECK(tried != before);
    clear(exec, {tried, Dtype::kUint8, vector_shape(256 * kBytes), Layout::kChannelsLast});
    CHECK(exec.scratch(kBytes) == tried);
  }
  CHECK(exec.scratch(kBytes) == before);
  clear(exec, {before, Dtype::kUint8, vector_shape(kBytes), Layout::kChannelsLast});
  synchronize(exec);
}

TEST_CASE("seconds_per_call makes the calls that are asked for and on a GPU one before them") {
  Exec exec(kTestDevice, 1);
  for (const int calls : {1, 5}) {
    int made = 0;
    const double seconds = seconds_per_call(exec, calls, [&] { ++made; });
    CHECK(made == calls + (kTestDevice.kind == DeviceKind::kCuda ? 1 : 0));
    CHECK(seconds >= 0);
    CHECK(seconds < 3600);
  }
  CHECK_THROWS_WITH(seconds_per_call(exec, 0, [] {}), Catch::Contains("at least one"));
}

}  // namespace ringfort
