// row_reduce and channel_reduce on CUDA: a block per row or channel. Thread t adds elements t, t +
// kThreads, ... in double, then a tree adds the threads: a fixed order, no atomics. Few rows or
// channels leave most of the GPU idle; splitting them is left to the CUDA backend.
#pragma once

#include "kernels/indexing.h"
#include "kernels/launch_cuda.cuh"
#include "kernels/map_cuda.cuh"

namespace ringfort::cuda {

struct Plus {
  __device__ double operator()(double a, double b) const { return a + b; }
};

template <size_t kSums>
__device__ void store_sums(const Views<kSums>& out, int64_t at, const double* sums, float beta) {
  for (size_t k = 0; k < kSums; ++k) {
    const double total = block_combine(sums[k], Plus{});
    if (threadIdx.x != 0) continue;
    const double before =
        beta == 0 ? 0 : static_cast<double>(beta) * detail::load_element<double>(out.view[k], at);
    detail::store_element(out.view[k], at, before + total);
  }
}

template <class S, class Fn, size_t kSums, size_t kIn>
__global__ void row_reduce_kernel(Fn fn, Views<kSums> out, Views<kIn> in, int64_t length) {
  const int64_t row = blockIdx.x;
  const S none[1] = {};
  double sums[kSums] = {};
  for (int64_t i = threadIdx.x; i < length; i += kThreads) {
    const auto result = apply<S>(fn, in.view, none, row * length + i,
                                 std::make_index_sequence<kIn>{}, std::index_sequence<>{});
    for (size_t k = 0; k < kSums; ++k)
      sums[k] += static_cast<double>(result_at(result, static_cast<int>(k)));
  }
  store_sums(out, row, sums, 0);
}

template <class S, class Fn, size_t kSums, size_t kIn, size_t kParams>
__global__ void channel_reduce_kernel(Fn fn, Views<kSums> out, Views<kIn> in, Views<kParams> params,
                                      float beta) {
  const int64_t c = blockIdx.x;
  const View& first = in.view[0];
  const int64_t plane = first.shape.h * first.shape.w, pixels = first.shape.n * plane;
  S values[kParams + 1];
  for (int k = 0; k < static_cast<int>(kParams); ++k)
    values[k] = detail::load_element<S>(params.view[k], c);
  double sums[kSums] = {};
  for (int64_t p = threadIdx.x; p < pixels; p += kThreads) {
    const auto result =
        apply<S>(fn, in.view, values, element_offset(first, p / plane, p % plane, c),
                 std::make_index_sequence<kIn>{}, std::make_index_sequence<kParams>{});
    for (size_t k = 0; k < kSums; ++k)
      sums[k] += static_cast<double>(result_at(result, static_cast<int>(k)));
  }
  store_sums(out, c, sums, beta);
}

template <class S, class Fn, size_t kSums, size_t kIn>
void row_reduce(const Fn& fn, const std::array<View, kSums>& out, const std::array<View, kIn>& in) {
  launch("row_reduce", in[0].shape.n, row_reduce_kernel<S, Fn, kSums, kIn>, fn, Views<kSums>(out),
         Views<kIn>(in), in[0].shape.per_sample());
}

template <class S, class Fn, size_t kSums, size_t kIn, size_t kParams>
void channel_reduce(const Fn& fn, const std::array<View, kSums>& out,
                    const std::array<View, kIn>& in, const std::array<View, kParams>& params,
                    float beta) {
  launch("channel_reduce", in[0].shape.c, channel_reduce_kernel<S, Fn, kSums, kIn, kParams>, fn,
         Views<kSums>(out), Views<kIn>(in), Views<kParams>(params), beta);
}

}  // namespace ringfort::cuda
