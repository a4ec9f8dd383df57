// segment_reduce on CUDA: a block per part, then a block per segment.
#pragma once

#include "kernels/reduce_cuda.cuh"

namespace ringfort::cuda {

// packed: parts start on whole groups of eight elements that lie on 16 bytes.
template <class S, class Fn, size_t kIn>
__global__ void segment_parts_kernel(Fn fn, double* partial, Views<kIn> in,
                                     const SegmentPart* parts, bool packed) {
  const SegmentPart part = parts[blockIdx.x];
  const Columns<S, 0> none = {};
  Columns<S, kIn> inputs;
  double sum = 0;
  for (int64_t i = part.first + static_cast<int64_t>(threadIdx.x) * kPerThread; i < part.last;
       i += kThreads * kPerThread) {
    const int n = static_cast<int>(part.last - i < kPerThread ? part.last - i : kPerThread);
    unrolled<kIn>([&](auto k) {
      if (packed && n == kPerThread && i % kPerThread == 0)
        load_eight(in.view[k], i, inputs.value[k]);
      else
        load_some(in.view[k], i, n, inputs.value[k]);
    });
    unrolled<kPerThread>([&](auto j) {
      if (j >= n) return;
      sum +=
          static_cast<double>(apply<S>(fn, inputs.value, none.value, j,
                                       std::make_index_sequence<kIn>{}, std::index_sequence<>{}));
    });
  }
  const double total = block_combine(sum, Plus{});
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

inline __global__ void segment_sums_kernel(View sums, const double* partial,
                                           const int64_t* first_parts) {
  const int64_t segment = blockIdx.x;
  double sum = 0;
  for (int64_t p = first_parts[segment] + threadIdx.x; p < first_parts[segment + 1]; p += kThreads)
    sum += partial[p];
  const double total = block_combine(sum, Plus{});
  if (threadIdx.x == 0) detail::store_element(sums, segment, total);
}

template <class S, class Fn, size_t kIn>
void segment_reduce(Exec& exec, const Fn& fn, const View& sums, const SegmentTable& table,
                    const std::array<View, kIn>& in, double* partial) {
  launch(exec, "segment_reduce", table.parts(), segment_parts_kernel<S, Fn, kIn>, fn, partial,
         Views<kIn>(in), table.part_list(), starts_on_16_bytes(in));
  launch(exec, "segment_reduce", table.segments(), segment_sums_kernel, sums,
         static_cast<const double*>(partial), table.first_parts());
}

}  // namespace ringfort::cuda
