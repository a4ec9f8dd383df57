// map, map_channels, map_random on CUDA. One kernel serves the three: they differ only in the extra
// values that follow the inputs in the functor's argument list. A thread computes 8 consecutive
// elements, so that a byte of a kBit view is written by one thread. Vector loads are left to the
// CUDA backend.
#pragma once

#include <utility>

#include "kernels/launch_cuda.cuh"
#include "kernels/philox.h"

namespace ringfort::cuda {

inline constexpr int kPerThread = 8;

struct NoExtra {
  static constexpr size_t kCount = 0;
  template <class S>
  __device__ void load(int64_t, S*) const {}
};

// Each channel parameter's value for the channel of element i.
template <size_t kParams>
struct ChannelExtra {
  static constexpr size_t kCount = kParams;
  Views<kParams> params;
  int64_t channels, plane;  // plane: pixels per sample
  Layout layout;

  template <class S>
  __device__ void load(int64_t i, S* extra) const {
    const int64_t c = layout == Layout::kBlocked16
                          ? i / (plane * 16) % (channels / 16) * 16 + i % 16
                          : i % channels;
    for (size_t k = 0; k < kParams; ++k) extra[k] = detail::load_element<S>(params.view[k], c);
  }
};

struct RandomExtra {
  static constexpr size_t kCount = 1;
  RandomKey key;
  const int64_t* samples;  // device-accessible
  int64_t length;          // elements per sample

  template <class S>
  __device__ void load(int64_t i, S* extra) const {
    const uint32_t word =
        key.word(static_cast<uint64_t>(samples[i / length]), static_cast<uint32_t>(i % length));
    extra[0] = static_cast<S>(uniform01(word));
  }
};

template <class S, class Fn, size_t... kIn, size_t... kExtra>
__device__ auto apply(const Fn& fn, const View* in, const S* extra, int64_t i,
                      std::index_sequence<kIn...>, std::index_sequence<kExtra...>) {
  return fn(detail::load_element<S>(in[kIn], i)..., extra[kExtra]...);
}

template <class S>
__device__ void store_eight(const View& view, int64_t first, int n, const S* values) {
  if (view.dtype == Dtype::kBit) {
    unsigned byte = 0;
    for (int j = 0; j < n; ++j) byte |= (values[j] != S(0) ? 1u : 0u) << j;
    view.as<uint8_t>()[first / 8] = static_cast<uint8_t>(byte);
  } else {
    for (int j = 0; j < n; ++j) detail::store_element(view, first + j, values[j]);
  }
}

template <class S, class Fn, size_t kOut, size_t kIn, class Extra>
__global__ void map_kernel(Fn fn, Views<kOut> out, Views<kIn> in, Extra extra, int64_t count) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kPerThread;
  if (first >= count) return;
  const int n = static_cast<int>(count - first < kPerThread ? count - first : kPerThread);
  S results[kOut][kPerThread];
  for (int j = 0; j < n; ++j) {
    S values[Extra::kCount + 1];
    extra.load(first + j, values);
    const auto result = apply<S>(fn, in.view, values, first + j, std::make_index_sequence<kIn>{},
                                 std::make_index_sequence<Extra::kCount>{});
    for (size_t k = 0; k < kOut; ++k) results[k][j] = result_at(result, static_cast<int>(k));
  }
  for (size_t k = 0; k < kOut; ++k) store_eight(out.view[k], first, n, results[k]);
}

template <class S, class Fn, size_t kOut, size_t kIn, class Extra>
void launch_map(const char* launcher, const Fn& fn, const std::array<View, kOut>& out,
                const std::array<View, kIn>& in, const Extra& extra) {
  const int64_t count = out[0].count();
  launch(launcher, blocks_for((count + kPerThread - 1) / kPerThread),
         map_kernel<S, Fn, kOut, kIn, Extra>, fn, Views<kOut>(out), Views<kIn>(in), extra, count);
}

template <class S, class Fn, size_t kOut, size_t kIn>
void map(const Fn& fn, const std::array<View, kOut>& out, const std::array<View, kIn>& in) {
  launch_map<S>("map", fn, out, in, NoExtra{});
}

template <class S, class Fn, size_t kOut, size_t kIn, size_t kParams>
void map_channels(const Fn& fn, const std::array<View, kOut>& out, const std::array<View, kIn>& in,
                  const std::array<View, kParams>& params) {
  const Shape& shape = out[0].shape;
  launch_map<S>("map_channels", fn, out, in,
                ChannelExtra<kParams>{params, shape.c, shape.h * shape.w, out[0].layout});
}

template <class S, class Fn, size_t kOut, size_t kIn>
void map_random(const Fn& fn, RandomKey key, const int64_t* samples,
                const std::array<View, kOut>& out, const std::array<View, kIn>& in) {
  launch_map<S>("map_random", fn, out, in, RandomExtra{key, samples, out[0].shape.per_sample()});
}

}  // namespace ringfort::cuda
