// segment_reduce and segment_map on CUDA: a block per part; of sums, then a block per segment.
#pragma once

#include "kernels/reduce_cuda.cuh"

namespace ringfort::cuda {

// The segment's numbers, as the extra values of each of eight elements.
template <class S, size_t kValues>
__device__ Columns<S, kValues> numbers_of(const Views<kValues>& values, int64_t segment) {
  Columns<S, kValues> numbers;
  unrolled<kValues>([&](auto k) {
    const S number = detail::load_element<S>(values.view[k], segment);
    unrolled<kPerThread>([&](auto j) { numbers.value[k][j] = number; });
  });
  return numbers;
}

template <class S, size_t kSums, class Fn, size_t kIn, size_t kValues>
__global__ void segment_parts_kernel(Fn fn, double* partial, Views<kIn> in, Views<kValues> values,
                                     const SegmentPart* parts, bool packed) {
  const SegmentPart part = parts[blockIdx.x];
  const auto formula = detail::resolved(fn);
  const Columns<S, kValues> numbers = numbers_of<S>(values, part.segment);
  double sums[kSums] = {};
  add_terms_of<S>(formula, part.first, part.last, in, numbers, packed, sums);
  unrolled<kSums>([&](auto k) {
    const double total = block_combine(sums[k], Plus{});
    if (threadIdx.x == 0) partial[blockIdx.x * kSums + k] = total;
  });
}

template <size_t kSums>
__global__ void segment_sums_kernel(Views<kSums> sums, const double* partial,
                                    const int64_t* first_parts) {
  const int64_t segment = blockIdx.x;
  unrolled<kSums>([&](auto k) {
    double sum = 0;
    for (int64_t p = first_parts[segment] + threadIdx.x; p < first_parts[segment + 1];
         p += kThreads)
      sum += partial[p * kSums + k];
    const double total = block_combine(sum, Plus{});
    if (threadIdx.x == 0) detail::store_element(sums.view[k], segment, total);
  });
}

template <class S, class Fn, size_t kSums, size_t kIn, size_t kValues>
void segment_reduce(Exec& exec, const Fn& fn, const std::array<View, kSums>& sums,
                    const SegmentTable& table, const std::array<View, kIn>& in,
                    const std::array<View, kValues>& values, double* partial) {
  launch(exec, "segment_reduce", table.parts(), segment_parts_kernel<S, kSums, Fn, kIn, kValues>,
         fn, partial, Views<kIn>(in), Views<kValues>(values), table.part_list(),
         starts_on_16_bytes(in));
  launch(exec, "segment_reduce", table.segments(), segment_sums_kernel<kSums>, Views<kSums>(sums),
         static_cast<const double*>(partial), table.first_parts());
}

template <class S, class Fn, size_t kOut, size_t kIn, size_t kValues>
__global__ void segment_map_kernel(Fn fn, Views<kOut> out, Views<kIn> in, Views<kValues> values,
                                   const SegmentPart* parts, bool packed) {
  const SegmentPart part = parts[blockIdx.x];
  const auto formula = detail::resolved(fn);
  const Columns<S, kValues> numbers = numbers_of<S>(values, part.segment);
  each_eight<S>(part.first, part.last, in, packed,
                [&](int64_t i, int n, bool whole, const Columns<S, kIn>& inputs) {
                  Columns<S, kOut> results;
                  apply_group(formula, inputs, numbers, n, results);
                  store_group(out, i, n, whole, results);
                });
}

template <class S, class Fn, size_t kOut, size_t kIn, size_t kValues>
void segment_map(Exec& exec, const Fn& fn, const std::array<View, kOut>& out,
                 const SegmentTable& table, const std::array<View, kIn>& in,
                 const std::array<View, kValues>& values) {
  launch(exec, "segment_map", table.parts(), segment_map_kernel<S, Fn, kOut, kIn, kValues>, fn,
         Views<kOut>(out), Views<kIn>(in), Views<kValues>(values), table.part_list(),
         starts_on_16_bytes(out) && starts_on_16_bytes(in));
}

}  // namespace ringfort::cuda
