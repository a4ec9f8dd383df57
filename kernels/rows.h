// for_each and for_each_row: launchers for what is not elementwise. for_each gives a functor an
// index; for_each_row gives it a row (a sample) and a RowContext, the block-level primitive: loops
// and reductions over the row's elements that one thread runs on the CPU and one block runs on
// CUDA, in a fixed order.
#pragma once

#include <type_traits>

#include "kernels/map.h"
#include "kernels/scalar.h"

#ifdef RINGFORT_DEVICE_CODE
#include "kernels/rows_cuda.cuh"
#endif

namespace ringfort {

// Loops over one row on the CPU (HD only because the functors that call it are). All run in 16
// side-by-side lanes so that they vectorise in a fixed order; what a row has beyond a multiple of
// 16, or a row of ten classes, is one step in which the last lanes stay idle. Rows are shorter than
// 2^31: loops count in int, because indices of 64 bits take two vectors where the values take one.
class CpuRow {
 public:
  template <class Body>
  HD void each(int64_t n, const Body& body) const {
    const int rest = static_cast<int>(n % kLanes), whole = static_cast<int>(n) - rest;
    for (int i = 0; i < whole; i += kLanes) {
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) body(i + l);
    }
    if (rest == 0) return;
#pragma omp simd
    for (int l = 0; l < kLanes; ++l)
      if (l < rest) body(int64_t{whole} + l);
  }
  // sum of value(i), i in [0, n). float: runs of 512 elements, then the runs in double, so that the
  // relative error of a sum of positive terms stays below 2e-6 for images of any size.
  template <class S, class Value>
  HD S sum(int64_t n, const Value& value) const {
    using Total = std::conditional_t<std::is_same_v<S, float>, double, S>;
    const auto run = [&](int64_t first, int64_t end) {
      return reduce(first, end, S(0), value, [](S a, S b) { return a + b; });
    };
    if (n <= detail::kRun) return run(0, n);
    Total total(0);
    for (int64_t first = 0; first < n; first += detail::kRun)
      total += static_cast<Total>(run(first, minimum(first + detail::kRun, n)));
    return static_cast<S>(total);
  }
  // largest value(i); n >= 1
  template <class S, class Value>
  HD S max(int64_t n, const Value& value) const {
    return reduce(0, n, value(0), value, [](S a, S b) { return maximum<S>(a, b); });
  }
  // lowest index with the largest value(i): how ties between logits are decided everywhere; n >= 1
  template <class S, class Value>
  HD int64_t argmax(int64_t n, const Value& value) const {
    // Looking for the largest value again, in the cache, is cheaper than a lane of indices that
    // changes only where a value does: g++ keeps such a lane in memory.
    const S largest = max<S>(n, value);
    const int32_t none = static_cast<int32_t>(n);
    const int32_t lowest = reduce(
        0, n, none, [&](int64_t i) { return value(i) == largest ? static_cast<int32_t>(i) : none; },
        [](int32_t a, int32_t b) { return minimum(a, b); });
    return lowest < none ? lowest : 0;  // none: all are NaN
  }
  // body(i, u), i in [0, n), with u uniform in (0, 1): element i's own number of (key, sample).
  template <class S, class Body>
  HD void each_uniform(const RandomKey& key, uint64_t sample, int64_t n, const Body& body) const {
    alignas(64) S uniform[detail::kRun];
    for (int64_t first = 0; first < n; first += detail::kRun) {
      const int64_t count = n - first < detail::kRun ? n - first : detail::kRun;
      detail::uniform_run(key, sample, first, count, uniform);
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) body(first + i, uniform[i]);
    }
  }
  // body(first, count) for the groups of `size` consecutive elements, of which the last may have
  // fewer.
  template <class Body>
  HD void each_group(int size, int64_t n, const Body& body) const {
    for (int64_t first = 0; first < n; first += size)
      body(first, static_cast<int>(minimum<int64_t>(size, n - first)));
  }
  // body(first, count, u) with u the uniform numbers of the group's elements, as in each_uniform.
  // size: a power of two, 4 to 16.
  template <class Body>
  HD void each_group_uniform(int size, const RandomKey& key, uint64_t sample, int64_t n,
                             const Body& body) const {
    alignas(64) float uniform[detail::kRun];
    for (int64_t run = 0; run < n; run += detail::kRun) {
      const int64_t length = minimum(detail::kRun, n - run);
      detail::uniform_run(key, sample, run, length, uniform);
      each_group(size, length, [&](int64_t first, int count) {
        body(run + first, count, static_cast<const float*>(uniform + first));
      });
    }
  }
  // body(i, place) for the i in [0, n) for which chosen(i), counted from 0 in their order.
  template <class Chosen, class Body>
  HD void each_selected(int64_t n, const Chosen& chosen, const Body& body) const {
    int64_t place = 0;
    for (int64_t i = 0; i < n; ++i)
      if (chosen(i)) body(i, place++);
  }
  // true for exactly one of the threads that share the row
  HD bool first() const { return true; }

 private:
  static constexpr int kLanes = 16;

  // value(i), i in [first, end), joined lane by lane, then the lanes. The idle lanes hold
  // `neutral`.
  template <class S, class Value, class Join>
  HD static S reduce(int64_t first, int64_t end, S neutral, const Value& value, const Join& join) {
    alignas(64) S lanes[kLanes];
    const int rest = static_cast<int>((end - first) % kLanes), whole = static_cast<int>(end) - rest;
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      S own = neutral;
      if (l < rest) own = value(int64_t{whole} + l);
      lanes[l] = join(neutral, own);  // a NaN counts as it would in the loop below
    }
    for (int i = static_cast<int>(first); i < whole; i += kLanes) {
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) lanes[l] = join(lanes[l], value(i + l));
    }
    return combine(lanes, join);
  }
  // All lanes into one, in a fixed order. Without the pragma g++ unrolls before it vectorises.
  template <int kHalf = kLanes / 2, class S, class Join>
  HD static S combine(const S* lanes, const Join& join) {
    if constexpr (kHalf == 0) {
      return lanes[0];
    } else {
      S folded[kHalf];
#pragma omp simd
      for (int l = 0; l < kHalf; ++l) folded[l] = join(lanes[l], lanes[l + kHalf]);
      return combine<kHalf / 2>(folded, join);
    }
  }
};

// fn(i) for i in [0, count): `cost` is roughly the elements each call touches, to decide whether
// threads are worth it.
template <class Fn>
void for_each(Exec& exec, int64_t count, int64_t cost, const Fn& fn) {
  if (exec.planned()) return;
#ifdef RINGFORT_DEVICE_CODE
  if (exec.on_cuda()) return cuda::for_each(exec, count, fn);
#endif
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (count * cost > detail::kParallelElements)
  for (int64_t i = 0; i < count; ++i) fn(i);
}

// fn(context, row) for row in [0, rows), each row `length` elements long.
template <class Fn>
void for_each_row(Exec& exec, int64_t rows, int64_t length, const Fn& fn) {
  if (exec.planned()) return;
#ifdef RINGFORT_DEVICE_CODE
  if (exec.on_cuda()) return cuda::for_each_row(exec, rows, fn);
#endif
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (rows * length > detail::kParallelElements)
  for (int64_t row = 0; row < rows; ++row) fn(CpuRow{}, row);
}

}  // namespace ringfort
