#include "bench/timing.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "kernels/activation.h"
#include "kernels/philox.h"

namespace ringfort::bench {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Timed timed(std::function<void()> fn, int calls) {
  return [fn = std::move(fn), calls] {
    const double start = now();
    for (int call = 0; call < calls; ++call) fn();
    return (now() - start) / calls;
  };
}

int calls_lasting(double seconds, const std::function<void()>& fn) {
  fn();
  return std::clamp(static_cast<int>(std::ceil(seconds / std::max(timed(fn)(), 1e-7))), 1, 100000);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<double> medians_in_turns(int rounds, const std::vector<Timed>& functions) {
  std::vector<std::vector<double>> seconds(functions.size());
  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i < functions.size(); ++i) {
      // Threads of the one before, here or in the peer's process, spin a while before they sleep.
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      seconds[i].push_back(functions[i]());
    }
  std::vector<double> medians;
  for (std::vector<double>& values : seconds) medians.push_back(median(std::move(values)));
  return medians;
}

MemoryCopy::MemoryCopy(Exec& exec, Pool& pool, int64_t moved)
    : threads_(exec.threads()),
      from_(pool, vector_shape(moved / 2), Dtype::kUint8),
      to_(pool, vector_shape(moved / 2), Dtype::kUint8) {
  std::memset(from_.view().data, 1, static_cast<size_t>(from_.view().bytes()));
  run();
}

void MemoryCopy::run() {
  const auto* from = from_.as<const std::byte>();
  auto* to = to_.as<std::byte>();
  const int64_t bytes = from_.view().bytes(), parts = threads_;
#pragma omp parallel for schedule(static) num_threads(threads_)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = part * bytes / parts, end = (part + 1) * bytes / parts;
    std::memcpy(to + first, from + first, static_cast<size_t>(end - first));
  }
}

Tensor random_tensor(Exec& exec, Pool& pool, const Shape& shape, Dtype dtype, Layout layout,
                     float low, float high) {
  Tensor values(pool, shape, Dtype::kFloat32, layout);
  const RandomKey key{1, Purpose::kTest, 0};
  for (int64_t i = 0; i < shape.count(); i += 4) {
    const Philox4 four = key.words(0, static_cast<uint32_t>(i / 4));
    for (int64_t k = i; k < std::min(i + 4, shape.count()); ++k)
      values.as<float>()[k] = low + (high - low) * uniform01(four.word[k - i]);
  }
  if (dtype == Dtype::kFloat32) return values;
  Tensor converted(pool, shape, dtype, layout);
  convert(exec, converted, values);
  return converted;
}

}  // namespace ringfort::bench
