// for_each and for_each_row: launchers for what is not elementwise. for_each gives a functor an
// index; for_each_row gives it a row (a sample) and a RowContext, the block-level primitive: loops
// and reductions over the row's elements that one thread runs on the CPU and one block runs on
// CUDA, in a fixed order.
#pragma once

#include <type_traits>

#include "kernels/map.h"
#include "kernels/scalar.h"

#ifdef __CUDACC__
#include "kernels/rows_cuda.cuh"
#endif

namespace ringfort {

// Loops over one row on the CPU (HD only because the functors that call it are). Sums run in 16
// side-by-side lanes so that they vectorise in a fixed order.
class CpuRow {
 public:
  template <class Body>
  HD void each(int64_t n, const Body& body) const {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) body(i);
  }
  // sum of value(i), i in [0, n). float: runs of 512 elements, then the runs in double, so that the relative error of a
  // sum of positive terms stays below 2e-6 for images of any size.
  template <class S, class Value>
  HD S sum(int64_t n, const Value& value) const {
    using Total = std::conditional_t<std::is_same_v<S, float>, double, S>;
    Total total(0);
    for (int64_t first = 0; first < n; first += detail::kRun) {
      const int64_t end = first + detail::kRun < n ? first + detail::kRun : n;
      alignas(64) S lanes[16] = {};
      int64_t i = first;
      for (; i + 16 <= end; i += 16) {
#pragma omp simd
        for (int64_t l = 0; l < 16; ++l) lanes[l] += value(i + l);
      }
      for (; i < end; ++i) lanes[i % 16] += value(i);
      for (int l = 0; l < 16; ++l) total += static_cast<Total>(lanes[l]);
    }
    return static_cast<S>(total);
  }
  // largest value(i); n >= 1
  template <class S, class Value>
  HD S max(int64_t n, const Value& value) const {
    S largest = value(0);
    for (int64_t i = 1; i < n; ++i) largest = maximum<S>(largest, value(i));
    return largest;
  }
  // lowest index with the largest value(i): how ties between logits are decided everywhere; n >= 1
  template <class S, class Value>
  HD int64_t argmax(int64_t n, const Value& value) const {
    int64_t best = 0;
    for (int64_t i = 1; i < n; ++i)
      if (value(i) > value(best)) best = i;
    return best;
  }
  // true for exactly one of the threads that share the row
  HD bool first() const { return true; }
};

// fn(i) for i in [0, count): `cost` is roughly the elements each call touches, to decide whether
// threads are worth it.
template <class Fn>
void for_each(Exec& exec, int64_t count, int64_t cost, const Fn& fn) {
#ifdef __CUDACC__
  if (exec.device().kind == DeviceKind::kCuda) return cuda::for_each(count, fn);
#endif
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (count * cost > detail::kParallelElements)
  for (int64_t i = 0; i < count; ++i) fn(i);
}

// fn(context, row) for row in [0, rows), each row `length` elements long.
template <class Fn>
void for_each_row(Exec& exec, int64_t rows, int64_t length, const Fn& fn) {
#ifdef __CUDACC__
  if (exec.device().kind == DeviceKind::kCuda) return cuda::for_each_row(rows, fn);
#endif
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (rows * length > detail::kParallelElements)
  for (int64_t row = 0; row < rows; ++row) fn(CpuRow{}, row);
}

}  // namespace ringfort
