// The emulated CUDA device must catch what it is there to catch: each planted mistake below is
// found, and the same kernel without it passes. What the sanitizers find ends the process, so it is
// run in a child.
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <functional>
#include <numeric>
#include <string>

#include "kernels/device_memory.h"
#include "kernels/launch_cuda.cuh"
#include "kernels/map.h"
#include "kernels/recording.h"
#include "kernels/reduce.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using Catch::Contains;
using cuda::kThreads;

// What a child that runs `body` writes to standard error, or "" where it ends well.
template <class Body>
std::string death_of(const Body& body) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    body();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text;
  char part[4096];
  for (ssize_t n; (n = ::read(ends[0], part, sizeof part)) > 0;)
    text.append(part, static_cast<size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : "died: " + text;
}

// Both orders of warps; the one that was set before comes back.
template <class Body>
void in_both_orders(const Body& body) {
  for (const auto order : {emulation::Order::kForward, emulation::Order::kReverse}) {
    emulation::set_order(order);
    body();
  }
  const char* order = std::getenv("RINGFORT_EMULATION_ORDER");
  const bool reverse = order != nullptr && std::string(order) == "reverse";
  emulation::set_order(reverse ? emulation::Order::kReverse : emulation::Order::kForward);
}

// Sums kThreads values by a tree in shared memory; without the barriers where kBarriers is false.
template <bool kBarriers>
__global__ void tree_sum(float* total, const float* values) {
  __shared__ float partial[kThreads];
  const unsigned t = threadIdx.x;
  partial[t] = values[t];
  if (kBarriers) __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (t < half) partial[t] += partial[t + half];
    if (kBarriers) __syncthreads();
  }
  if (t == 0) *total = partial[0];
}

// y = 2 x: with a tail check, without one, or with one that leaves the last element out.
enum class Tail { kRight, kMissing, kShort };
template <Tail kTail>
__global__ void twice(float* y, const float* x, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (kTail == Tail::kRight && i >= count) return;
  if (kTail == Tail::kShort && i >= count - 1) return;
  y[i] = 2 * x[i];
}

__global__ void read_four(uint4* to, const float* from) {
  *to = *reinterpret_cast<const uint4*>(from);
}

__global__ void half_a_warp_votes(int* to) {
  if (threadIdx.x % 32 < 16) to[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, 1, 1);
}

std::vector<float> counting(size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}

}  // namespace

TEST_CASE("emulation: a missing barrier gives a wrong sum in at least one order of the warps") {
  Exec exec(kTestDevice, 1);
  const std::vector<float> values = counting(kThreads);
  const float expected = kThreads * (kThreads + 1) / 2.0f;
  int wrong_without = 0;
  in_both_orders([&] {
    float total = 0;
    cuda::launch(exec, "tree_sum", 1, tree_sum<true>, &total, values.data());
    CHECK(total == expected);
    cuda::launch(exec, "tree_sum", 1, tree_sum<false>, &total, values.data());
    wrong_without += total != expected;
  });
  CHECK(wrong_without > 0);
}

TEST_CASE("emulation: a read beyond the end is reported where it happens") {
  const std::vector<float> x = counting(1000);
  std::vector<float> y(1000);
  Exec exec(kTestDevice, 1);
  const auto run = [&](auto kernel) {
    cuda::launch(exec, "twice", cuda::blocks_for(1000), kernel, y.data(), x.data(), int64_t{1000});
  };
  CHECK(death_of([&] { run(twice<Tail::kRight>); }).empty());
  CHECK_THAT(death_of([&] { run(twice<Tail::kMissing>); }),
             Contains("heap-buffer-overflow") && Contains("emulation_test.cpp"));
}

TEST_CASE("emulation: a wrong tail shows in the result") {
  Exec exec(kTestDevice, 1);
  for (const size_t count : {1u, 31u, 33u, 256u, 1023u}) {
    const std::vector<float> x = counting(count);
    std::vector<float> right(count), wrong(count), expected(count);
    for (size_t i = 0; i < count; ++i) expected[i] = 2 * x[i];
    const auto n = static_cast<int64_t>(count);
    cuda::launch(exec, "twice", cuda::blocks_for(n), twice<Tail::kRight>, right.data(), x.data(),
                 n);
    cuda::launch(exec, "twice", cuda::blocks_for(n), twice<Tail::kShort>, wrong.data(), x.data(),
                 n);
    CHECK(right == expected);
    CHECK(wrong != expected);
  }
}

TEST_CASE("emulation: a 16-byte load from an address that is not aligned is an error") {
  Exec exec(kTestDevice, 1);
  alignas(16) float from[8] = {};
  uint4 to;
  const auto run = [&](const float* at) { cuda::launch(exec, "read", 1, read_four, &to, at); };
  CHECK(death_of([&] { run(from); }).empty());
  CHECK_THAT(death_of([&] { run(from + 1); }), Contains("misaligned address"));
}

TEST_CASE("emulation: a shuffle that not all named threads reach is an error") {
  Exec exec(kTestDevice, 1);
  std::vector<int> to(kThreads);
  CHECK_THAT(death_of([&] { cuda::launch(exec, "vote", 1, half_a_warp_votes, to.data()); }),
             Contains("0000ffff have come"));
}

TEST_CASE("emulation: host code that touches device memory is an error, copies are none") {
  Exec exec(kTestDevice, 1);
  const DeviceMemory memory = allocate_on(kTestDevice, 64, "a test");
  const View view{memory.get(), Dtype::kFloat32, vector_shape(16), Layout::kChannelsLast};
  const std::vector<float> sent = counting(16);
  std::vector<float> received(16);
  to_device(exec, view, sent.data());
  map(exec, [](auto x) { return x + x; }, {view}, {view});
  to_host(exec, received.data(), view);
  for (size_t i = 0; i < 16; ++i) CHECK(received[i] == 2 * sent[i]);
  CHECK_THAT(death_of([&] { static_cast<float*>(memory.get())[3] = 1; }),
             Contains("use-after-poison"));
}

TEST_CASE("emulation: launches that CUDA would refuse are refused with the kernel's name") {
  Exec exec(kTestDevice, 1);
  CHECK_THROWS_WITH(cuda::launch(exec, "wide", int64_t{1} << 31, 1, half_a_warp_votes,
                                 static_cast<int*>(nullptr)),
                    Contains("wide: 2147483648 x 1 blocks"));
  CHECK_THROWS_WITH(
      cuda::launch(exec, "high", 1, 65536, half_a_warp_votes, static_cast<int*>(nullptr)),
      Contains("high: 1 x 65536 blocks"));
}

TEST_CASE("emulation: a capture in which memory is taken, given back or waited for is lost") {
  Exec exec(kTestDevice, 1);
  const DeviceMemory memory = allocate_on(kTestDevice, 64, "a test");
  const View bytes{memory.get(), Dtype::kUint8, vector_shape(64), Layout::kChannelsLast};
  std::vector<uint8_t> host(64);
  void* const taken = cuda::allocate(64, "a test");
  const std::pair<const char*, std::function<void()>> works[] = {
      {"nothing of these", [] {}},
      {"allocation", [] { allocate_on(kTestDevice, 64, "a test"); }},
      {"release", [&] { cuda::release(taken); }},
      {"copy to the host", [&] { to_host(exec, host.data(), bytes); }},
      {"immediate copy", [&] { read_now(kTestDevice, host.data(), bytes); }},
      {"page-locked memory",
       [] {
         void* locked = nullptr;
         cudaMallocHost(&locked, 64);
       }},
  };
  for (const auto& [what, work] : works) {
    INFO(what);
    std::string why;
    const RecordingHandle recording = record(
        exec,
        [&, &work = work] {
          clear(exec, bytes);
          work();
        },
        why);
    CHECK((recording != nullptr) == (what == works[0].first));
  }
  cuda::release(taken);
}

TEST_CASE("channel grid: every pixel and channel is covered once, whatever the shape") {
  for (const int64_t channels : {8, 16, 24, 64, 72, 256, 264, 512, 2048})
    for (const int64_t pixels : {1, 2, 31, 33, 1023, 4096, 131072, 5000000}) {
      const cuda::ChannelGrid grid(pixels, channels);
      INFO(channels << " channels, " << pixels << " pixels");
      CHECK(grid.tiles * grid.columns * cuda::kPerThread >= channels);
      CHECK((grid.tiles - 1) * grid.columns * cuda::kPerThread < channels);
      CHECK(grid.parts * grid.pixels >= pixels);
      CHECK((grid.columns & (grid.columns - 1)) == 0);
      CHECK(grid.columns <= cuda::kWarp);
      CHECK(grid.parts <= 1024);
    }
}

}  // namespace ringfort
