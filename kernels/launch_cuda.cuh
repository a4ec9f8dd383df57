// What the CUDA side of every launcher shares: views as kernel arguments, one checked launch,
// block-wide sums, eight elements at a time. Only launcher headers include this, and only where
// device code is compiled.
#pragma once

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "kernels/error.h"
#include "kernels/exec_cuda.h"
#include "kernels/slots.h"

namespace ringfort::cuda {

// Threads of a block: a power of two, because block_combine halves it. Fixed, so that the order of
// additions is too.
inline constexpr int kThreads = 256;
inline constexpr int kWarp = 32;

// Consecutive elements that one thread handles: 16 bytes of bfloat16, one byte of a bit mask.
inline constexpr int kPerThread = 8;

// Views by value: std::array has no device functions, a plain array does not need any.
template <size_t kCount>
struct Views {
  View view[kCount == 0 ? 1 : kCount];

  Views(const std::array<View, kCount>& views) { std::copy(views.begin(), views.end(), view); }
};

// kernel(arguments...) on a grid of blocks of kThreads threads, on the Exec's stream. Nothing is
// launched for an empty grid. Errors: a launch that CUDA refuses; what fails while the kernel runs
// shows at the next synchronisation.
template <class... Params>
void launch(Exec& exec, const char* launcher, int64_t blocks_x, int64_t blocks_y,
            void (*kernel)(Params...), const Params&... arguments) {
  if (blocks_x == 0 || blocks_y == 0) return;
  require(blocks_x <= 0x7FFFFFFF && blocks_y <= 65535,
          "{}: {} x {} blocks are more than a CUDA grid holds; use smaller batches", launcher,
          blocks_x, blocks_y);
  const cudaLaunchConfig_t config = {
      dim3(static_cast<unsigned>(blocks_x), static_cast<unsigned>(blocks_y)),
      dim3(kThreads),
      0,
      exec.cuda().stream(),
      nullptr,
      0};
  check(cudaLaunchKernelEx(&config, kernel, arguments...), launcher);
}
template <class... Params>
void launch(Exec& exec, const char* launcher, int64_t blocks, void (*kernel)(Params...),
            const Params&... arguments) {
  launch(exec, launcher, blocks, 1, kernel, arguments...);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t blocks_for(int64_t threads) { return ceil_div(threads, kThreads); }

// body(0), ..., body(kCount - 1), each with its number as a constant: arrays that are indexed by
// nothing else stay in registers, which a loop with a bound known only at run time keeps them from.
template <int kValue>
struct Constant {
  __device__ constexpr operator int() const { return kValue; }
};
template <class Body, int... kIndices>
__device__ void for_constants(const Body& body, std::integer_sequence<int, kIndices...>) {
  (body(Constant<kIndices>{}), ...);
}
template <int kCount, class Body>
__device__ void unrolled(const Body& body) {
  for_constants(body, std::make_integer_sequence<int, kCount>{});
}

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
  if constexpr (std::is_arithmetic_v<T>) {
    // Within a warp without a barrier, then over the warps.
    __shared__ T of_warp[kThreads / kWarp];
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2)
      value = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, lanes));
    if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = value;
    __syncthreads();
    T result = of_warp[0];
    for (int warp = 1; warp < kThreads / kWarp; ++warp) result = combine(result, of_warp[warp]);
    __syncthreads();  // before anyone writes `of_warp` again
    return result;
  } else {
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
}

// --- eight elements at a time, in loads of 16 bytes where the dtype fills them ---

template <class T>
struct Eight {
  static constexpr int kBytes = kPerThread * static_cast<int>(sizeof(T));
  using Word = std::conditional_t<kBytes % 16 == 0, uint4, uint2>;
  static constexpr int kWords = kBytes / static_cast<int>(sizeof(Word));

  union {
    Word word[kWords];
    T value[kPerThread];
  };

  // REQUIRES: `from` is aligned to 16 bytes, or to 8 where the eight are that short.
  __device__ explicit Eight(const T* from) {
    for (int w = 0; w < kWords; ++w) word[w] = reinterpret_cast<const Word*>(from)[w];
  }
  __device__ Eight() {}
  __device__ void store(T* to) const {
    for (int w = 0; w < kWords; ++w) reinterpret_cast<Word*>(to)[w] = word[w];
  }
};

// Elements first .. first + 7 of a view that starts on 16 bytes. REQUIRES: first % 8 == 0.
template <class S>
__device__ void load_eight(const View& view, int64_t first, S* to) {
  const auto convert = [&](const auto& eight) {
    for (int j = 0; j < kPerThread; ++j) to[j] = static_cast<S>(eight.value[j]);
  };
  switch (view.dtype) {
    case Dtype::kFloat32:
      return convert(Eight<float>(view.as<const float>() + first));
    case Dtype::kFloat64:
      return convert(Eight<double>(view.as<const double>() + first));
    case Dtype::kInt32:
      return convert(Eight<int32_t>(view.as<const int32_t>() + first));
    case Dtype::kInt64:
      return convert(Eight<int64_t>(view.as<const int64_t>() + first));
    case Dtype::kUint8:
      return convert(Eight<uint8_t>(view.as<const uint8_t>() + first));
    case Dtype::kBFloat16: {
      const Eight<uint16_t> eight(view.as<const uint16_t>() + first);
      for (int j = 0; j < kPerThread; ++j)
        to[j] = static_cast<S>(to_float(BFloat16{eight.value[j]}));
      return;
    }
    case Dtype::kBit: {
      const unsigned byte = view.as<const uint8_t>()[first / 8];
      for (int j = 0; j < kPerThread; ++j) to[j] = static_cast<S>((byte >> j) & 1u);
      return;
    }
  }
}

template <class T, class S>
__device__ void store_as(const View& view, int64_t first, const S* from) {
  Eight<T> eight;
  for (int j = 0; j < kPerThread; ++j) eight.value[j] = static_cast<T>(from[j]);
  eight.store(view.as<T>() + first);
}

// The counterpart of load_eight.
template <class S>
__device__ void store_eight(const View& view, int64_t first, const S* from) {
  switch (view.dtype) {
    case Dtype::kFloat32:
      return store_as<float>(view, first, from);
    case Dtype::kFloat64:
      return store_as<double>(view, first, from);
    case Dtype::kInt32:
      return store_as<int32_t>(view, first, from);
    case Dtype::kInt64:
      return store_as<int64_t>(view, first, from);
    case Dtype::kUint8:
      return store_as<uint8_t>(view, first, from);
    case Dtype::kBFloat16: {
      Eight<uint16_t> eight;
      for (int j = 0; j < kPerThread; ++j)
        eight.value[j] = to_bfloat16(static_cast<float>(from[j])).bits;
      return eight.store(view.as<uint16_t>() + first);
    }
    case Dtype::kBit: {
      unsigned byte = 0;
      for (int j = 0; j < kPerThread; ++j) byte |= (from[j] != S(0) ? 1u : 0u) << j;
      view.as<uint8_t>()[first / 8] = static_cast<uint8_t>(byte);
      return;
    }
  }
}

// Whether all views start where load_eight may begin. Views of a pool do; slices need not.
template <size_t kCount>
bool starts_on_16_bytes(const std::array<View, kCount>& views) {
  return std::all_of(views.begin(), views.end(), [](const View& view) {
    return view.dtype == Dtype::kBit || reinterpret_cast<uintptr_t>(view.data) % 16 == 0;
  });
}

}  // namespace ringfort::cuda
