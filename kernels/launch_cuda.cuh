// What the CUDA side of every launcher shares: views as kernel arguments, one checked launch,
// block-wide sums. Only launcher headers include this, and only where nvcc compiles them.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <array>

#include "kernels/error.h"
#include "kernels/slots.h"

namespace ringfort::cuda {

// Threads of a block: a power of two, because block_sum halves it. Fixed, so that the order of
// additions is too.
inline constexpr int kThreads = 256;

// Views by value: std::array has no device functions, a plain array does not need any.
template <size_t kCount>
struct Views {
  View view[kCount == 0 ? 1 : kCount];

  Views(const std::array<View, kCount>& views) { std::copy(views.begin(), views.end(), view); }
};

// kernel(arguments...) on `blocks` blocks of kThreads threads, default stream. Nothing is launched
// for 0 blocks. Errors: a launch that CUDA refuses; what fails while the kernel runs shows at the
// next synchronisation.
template <class... Params>
void launch(const char* launcher, int64_t blocks, void (*kernel)(Params...),
            const Params&... arguments) {
  if (blocks == 0) return;
  require(blocks <= 0x7FFFFFFF,
          "{}: {} blocks are more than a CUDA grid holds; use smaller batches", launcher, blocks);
  kernel<<<static_cast<unsigned>(blocks), kThreads>>>(arguments...);
  const cudaError_t status = cudaGetLastError();
  require(status == cudaSuccess, "{}: CUDA could not launch the kernel: {} ({})", launcher,
          cudaGetErrorString(status), cudaGetErrorName(status));
}

inline int64_t blocks_for(int64_t threads) { return (threads + kThreads - 1) / kThreads; }

// The k-th of what a functor returned: one value, or Results.
template <class S>
__device__ S result_at(S result, int) {
  return result;
}
template <class S, int kCount>
__device__ S result_at(const Results<S, kCount>& result, int k) {
  return result.value[k];
}

// Combines one value per thread of the block by a fixed tree; every thread gets the result.
template <class T, class Combine>
__device__ T block_combine(T value, const Combine& combine) {
  __shared__ T partial[kThreads];
  partial[threadIdx.x] = value;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half)
      partial[threadIdx.x] = combine(partial[threadIdx.x], partial[threadIdx.x + half]);
    __syncthreads();
  }
  const T result = partial[0];
  __syncthreads();  // before anyone writes `partial` again
  return result;
}

}  // namespace ringfort::cuda
