// for_each and for_each_row on CUDA: a thread per index, a block per row. CudaRow is CpuRow's
// counterpart: the threads of the block share the row, and every reduction is a fixed tree whose
// result all of them get.
#pragma once

#include <type_traits>

#include "kernels/launch_cuda.cuh"
#include "kernels/philox.h"

namespace ringfort::cuda {

// All threads of the block must make the same calls in the same order.
class CudaRow {
 public:
  template <class Body>
  __device__ void each(int64_t n, const Body& body) const {
    for (int64_t i = threadIdx.x; i < n; i += kThreads) body(i);
    __syncthreads();
  }
  template <class S, class Value>
  __device__ S sum(int64_t n, const Value& value) const {
    using Total = std::conditional_t<std::is_same_v<S, float>, double, S>;
    Total own(0);
    for (int64_t i = threadIdx.x; i < n; i += kThreads) own += static_cast<Total>(value(i));
    return static_cast<S>(block_combine(own, [](Total a, Total b) { return a + b; }));
  }
  template <class S, class Value>
  __device__ S max(int64_t n, const Value& value) const {
    S own = value(0);
    for (int64_t i = threadIdx.x; i < n; i += kThreads) {
      const S next = value(i);
      if (own < next) own = next;
    }
    return block_combine(own, [](S a, S b) { return a < b ? b : a; });
  }
  template <class S, class Value>
  __device__ int64_t argmax(int64_t n, const Value& value) const {
    Best<S> own{value(0), 0};
    for (int64_t i = threadIdx.x; i < n; i += kThreads) {
      const S next = value(i);
      if (own.value < next) own = {next, i};
    }
    return block_combine(own,
                         [](Best<S> a, Best<S> b) {
                           const bool take_b =
                               a.value < b.value || (!(b.value < a.value) && b.index < a.index);
                           return take_b ? b : a;
                         })
        .index;
  }
  template <class S, class Body>
  __device__ void each_uniform(const RandomKey& key, uint64_t sample, int64_t n,
                               const Body& body) const {
    for (int64_t block = threadIdx.x; 4 * block < n; block += kThreads) {
      const Philox4 words = key.words(sample, static_cast<uint32_t>(block));
      for (int k = 0; k < 4 && 4 * block + k < n; ++k)
        body(4 * block + k, static_cast<S>(uniform01(words.word[k])));
    }
    __syncthreads();
  }
  template <class Body>
  __device__ void each_group(int size, int64_t n, const Body& body) const {
    for (int64_t first = int64_t{threadIdx.x} * size; first < n; first += int64_t{kThreads} * size)
      body(first, static_cast<int>(n - first < size ? n - first : size));
    __syncthreads();
  }
  template <class Body>
  __device__ void each_group_uniform(int size, const RandomKey& key, uint64_t sample, int64_t n,
                                     const Body& body) const {
    each_group(size, n, [&](int64_t first, int count) {
      float uniform[16];
      for (int k = 0; k < count; k += 4) {
        const Philox4 words = key.words(sample, static_cast<uint32_t>((first + k) / 4));
        for (int j = 0; j < 4; ++j) uniform[k + j] = uniform01(words.word[j]);
      }
      body(first, count, static_cast<const float*>(uniform));
    });
  }
  template <class Chosen, class Body>
  __device__ void each_selected(int64_t n, const Chosen& chosen, const Body& body) const {
    __shared__ int of_warp[kThreads / kWarp];
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    int64_t before = 0;  // chosen in the tiles so far
    for (int64_t tile = 0; tile < n; tile += kThreads) {
      const int64_t i = tile + threadIdx.x;
      const bool mine = i < n && chosen(i);
      const unsigned ballot = __ballot_sync(0xFFFFFFFFu, mine);
      if (lane == 0) of_warp[warp] = __popc(ballot);
      __syncthreads();
      int64_t place = before + __popc(ballot & ((1u << lane) - 1));
      for (int w = 0; w < kThreads / kWarp; ++w) {
        if (w < warp) place += of_warp[w];
        before += of_warp[w];
      }
      if (mine) body(i, place);
      __syncthreads();  // before anyone writes `of_warp` again
    }
  }
  __device__ bool first() const { return threadIdx.x == 0; }

 private:
  template <class S>
  struct Best {
    S value;
    int64_t index;
  };
};

template <class Fn>
__global__ void for_each_kernel(Fn fn, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) fn(i);
}

template <class Fn>
__global__ void for_each_row_kernel(Fn fn) {
  fn(CudaRow{}, static_cast<int64_t>(blockIdx.x));
}

template <class Fn>
void for_each(Exec& exec, int64_t count, const Fn& fn) {
  launch(exec, "for_each", blocks_for(count), for_each_kernel<Fn>, fn, count);
}

template <class Fn>
void for_each_row(Exec& exec, int64_t rows, const Fn& fn) {
  launch(exec, "for_each_row", rows, for_each_row_kernel<Fn>, fn);
}

}  // namespace ringfort::cuda
