#include "bench/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <thread>

#include "engine/transfer.h"
#include "kernels/activation.h"
#include "kernels/philox.h"

namespace ringfort::bench {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Timed timed(Exec& exec, std::function<void()> fn, int calls) {
  return [&exec, fn = std::move(fn), calls] {
    synchronize(exec);
    const double start = now();
    for (int call = 0; call < calls; ++call) fn();
    synchronize(exec);
    return (now() - start) / calls;
  };
}

int calls_lasting(Exec& exec, double seconds, const std::function<void()>& fn) {
  fn();
  const double once = std::max(timed(exec, fn)(), 1e-7);
  return std::clamp(static_cast<int>(std::ceil(seconds / once)), 1, 100000);
}

double host_seconds(Exec& exec, const std::function<void()>& fn) {
  synchronize(exec);
  const double start = now();
  fn();
  const double seconds = now() - start;
  synchronize(exec);
  return seconds;
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
    : exec_(exec),
      from_(pool, vector_shape(moved / 2), Dtype::kUint8),
      to_(pool, vector_shape(moved / 2), Dtype::kUint8) {
  clear(exec, from_);
  run();
}

void MemoryCopy::run() {
  if (exec_.device().kind == DeviceKind::kCuda) return copy_view(exec_, to_, from_);
  const auto* from = from_.as<const std::byte>();
  auto* to = to_.as<std::byte>();
  const int64_t bytes = from_.view().bytes(), parts = exec_.threads();
#pragma omp parallel for schedule(static) num_threads(static_cast <int>(parts))
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = part * bytes / parts, end = (part + 1) * bytes / parts;
    std::memcpy(to + first, from + first, static_cast<size_t>(end - first));
  }
}

Tensor random_tensor(Exec& exec, Pool& pool, const Shape& shape, Dtype dtype, Layout layout,
                     float low, float high) {
  std::vector<float> numbers(static_cast<size_t>(shape.count()));
  const RandomKey key{1, Purpose::kTest, 0};
  for (size_t i = 0; i < numbers.size(); i += 4) {
    const Philox4 four = key.words(0, static_cast<uint32_t>(i / 4));
    for (size_t k = i; k < std::min(i + 4, numbers.size()); ++k)
      numbers[k] = low + (high - low) * uniform01(four.word[k - i]);
  }
  Tensor values(pool, shape, Dtype::kFloat32, layout);
  to_device(exec, values, numbers.data());
  if (dtype == Dtype::kFloat32) return values;
  Tensor converted(pool, shape, dtype, layout);
  convert(exec, converted, values);
  return converted;
}

Tensor cyclic_labels(Exec& exec, Pool& pool, int64_t count, int64_t classes) {
  std::vector<int32_t> labels(static_cast<size_t>(count));
  for (size_t i = 0; i < labels.size(); ++i)
    labels[i] = static_cast<int32_t>(static_cast<int64_t>(i) % classes);
  return to_tensor<int32_t>(exec, pool, vector_shape(count), labels);
}

Tensor sample_numbers(Exec& exec, Pool& pool, int64_t count) {
  std::vector<int64_t> samples(static_cast<size_t>(count));
  std::iota(samples.begin(), samples.end(), int64_t{0});
  return to_tensor<int64_t>(exec, pool, vector_shape(count), samples);
}

}  // namespace ringfort::bench
