// map, map_channels, map_random on CUDA. One kernel serves the three: they differ only in the extra
// values that follow the inputs in the functor's argument list. A thread computes 8 consecutive
// elements: it loads all of its inputs first, 16 bytes at a time, so that many loads are in flight,
// and a byte of a kBit view is written by one thread.
#pragma once

#include <utility>

#include "kernels/launch_cuda.cuh"
#include "kernels/philox.h"

namespace ringfort::cuda {

// The extra values of elements first .. first + 7: load(first, n, values), values[k][j].

struct NoExtra {
  static constexpr size_t kCount = 0;
  template <class S>
  __device__ void load(int64_t, int, S (*)[kPerThread]) const {}
};

// Each channel parameter's value for the channel of an element.
template <size_t kParams>
struct ChannelExtra {
  static constexpr size_t kCount = kParams;
  Views<kParams> params;
  int64_t channels, plane;  // plane: pixels per sample
  Layout layout;
  bool packed;  // eight elements are eight channels that one load may fetch

  __device__ int64_t channel(int64_t i) const {
    if (layout == Layout::kBlocked16) return i / (plane * 16) % (channels / 16) * 16 + i % 16;
    // A 64-bit remainder costs as much as the rest of the kernel.
    if (i <= 0xFFFFFFFF) return static_cast<uint32_t>(i) % static_cast<uint32_t>(channels);
    return i % channels;
  }

  template <class S>
  __device__ void load(int64_t first, int n, S (*values)[kPerThread]) const {
    if (packed) {
      const int64_t c = channel(first);
      unrolled<kParams>([&](auto k) { load_eight(params.view[k], c, values[k]); });
      return;
    }
    unrolled<kPerThread>([&](auto j) {
      if (j >= n) return;
      const int64_t c = channel(first + j);
      unrolled<kParams>([&](auto k) { values[k][j] = detail::load_element<S>(params.view[k], c); });
    });
  }
};

struct RandomExtra {
  static constexpr size_t kCount = 1;
  RandomKey key;
  const int64_t* samples;  // on the device
  int64_t length;          // elements per sample

  template <class S>
  __device__ void load(int64_t first, int n, S (*values)[kPerThread]) const {
    int64_t sample = first / length, element = first % length;
    Philox4 words{};
    unrolled<kPerThread>([&](auto j) {
      if (j >= n) return;
      const auto lane = static_cast<uint32_t>(element % 4);
      // Up to four elements of one sample share a counter.
      if (j == 0 || lane == 0)
        words =
            key.words(static_cast<uint64_t>(samples[sample]), static_cast<uint32_t>(element / 4));
      const uint32_t low = lane % 2 == 0 ? words.word[0] : words.word[1],
                     high = lane % 2 == 0 ? words.word[2] : words.word[3];
      values[0][j] = static_cast<S>(uniform01(lane < 2 ? low : high));
      if (++element < length) return;
      element = 0;
      ++sample;
    });
  }
};

// One more than there may be: an array of none is none.
template <class S, size_t kCount>
struct Columns {
  S value[kCount + 1][kPerThread];
};

template <class S, class Fn, size_t... kIn, size_t... kExtra>
__device__ auto apply(const Fn& fn, const S (*in)[kPerThread], const S (*extra)[kPerThread], int j,
                      std::index_sequence<kIn...>, std::index_sequence<kExtra...>) {
  return fn(in[kIn][j]..., extra[kExtra][j]...);
}

// The last elements of a view, or all of one that does not start on 16 bytes.
template <class S>
__device__ void load_some(const View& view, int64_t first, int n, S* to) {
  unrolled<kPerThread>([&](auto j) {
    if (j < n) to[j] = detail::load_element<S>(view, first + j);
  });
}
template <class S>
__device__ void store_some(const View& view, int64_t first, int n, const S* from) {
  if (view.dtype == Dtype::kBit) {
    unsigned byte = 0;
    unrolled<kPerThread>([&](auto j) {
      if (j < n) byte |= (from[j] != S(0) ? 1u : 0u) << j;
    });
    view.as<uint8_t>()[first / 8] = static_cast<uint8_t>(byte);
  } else {
    unrolled<kPerThread>([&](auto j) {
      if (j < n) detail::store_element(view, first + j, from[j]);
    });
  }
}

// Elements first .. first + n - 1 of every view, up to eight. whole: eight, from where load_eight
// may begin.
template <class S, size_t kViews>
__device__ void load_group(const Views<kViews>& views, int64_t first, int n, bool whole,
                           Columns<S, kViews>& to) {
  unrolled<kViews>([&](auto k) {
    if (whole)
      load_eight(views.view[k], first, to.value[k]);
    else
      load_some(views.view[k], first, n, to.value[k]);
  });
}
template <class S, size_t kViews>
__device__ void store_group(const Views<kViews>& views, int64_t first, int n, bool whole,
                            const Columns<S, kViews>& from) {
  unrolled<kViews>([&](auto k) {
    if (whole)
      store_eight(views.view[k], first, from.value[k]);
    else
      store_some(views.view[k], first, n, from.value[k]);
  });
}

// results = formula(inputs..., extras...) for n elements.
template <class S, class Fn, size_t kIn, size_t kExtra, size_t kOut>
__device__ void apply_group(const Fn& formula, const Columns<S, kIn>& inputs,
                            const Columns<S, kExtra>& extras, int n, Columns<S, kOut>& results) {
  unrolled<kPerThread>([&](auto j) {
    if (j >= n) return;
    const auto result =
        apply<S>(formula, inputs.value, extras.value, j, std::make_index_sequence<kIn>{},
                 std::make_index_sequence<kExtra>{});
    unrolled<kOut>([&](auto k) { results.value[k][j] = result_at(result, k); });
  });
}

template <class S, class Fn, size_t kOut, size_t kIn, class Extra>
__global__ void map_kernel(Fn fn, Views<kOut> out, Views<kIn> in, Extra extra, int64_t count,
                           bool packed) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPerThread;
  if (first >= count) return;
  const int n = static_cast<int>(count - first < kPerThread ? count - first : kPerThread);
  const bool whole = packed && n == kPerThread;
  Columns<S, kIn> inputs;
  Columns<S, Extra::kCount> extras;
  Columns<S, kOut> results;
  load_group(in, first, n, whole, inputs);
  extra.load(first, n, extras.value);
  apply_group(detail::resolved(fn), inputs, extras, n, results);
  store_group(out, first, n, whole, results);
}

template <class S, class Fn, size_t kOut, size_t kIn, class Extra>
void launch_map(Exec& exec, const char* launcher, const Fn& fn, const std::array<View, kOut>& out,
                const std::array<View, kIn>& in, const Extra& extra) {
  const int64_t count = out[0].count();
  launch(exec, launcher, blocks_for(ceil_div(count, kPerThread)),
         map_kernel<S, Fn, kOut, kIn, Extra>, fn, Views<kOut>(out), Views<kIn>(in), extra, count,
         starts_on_16_bytes(out) && starts_on_16_bytes(in));
}

template <class S, class Fn, size_t kOut, size_t kIn>
void map(Exec& exec, const Fn& fn, const std::array<View, kOut>& out,
         const std::array<View, kIn>& in) {
  launch_map<S>(exec, "map", fn, out, in, NoExtra{});
}

template <class S, class Fn, size_t kOut, size_t kIn, size_t kParams>
void map_channels(Exec& exec, const Fn& fn, const std::array<View, kOut>& out,
                  const std::array<View, kIn>& in, const std::array<View, kParams>& params) {
  const Shape& shape = out[0].shape;
  const bool packed = shape.c % kPerThread == 0 && starts_on_16_bytes(params);
  launch_map<S>(exec, "map_channels", fn, out, in,
                ChannelExtra<kParams>{params, shape.c, shape.h * shape.w, out[0].layout, packed});
}

template <class S, class Fn, size_t kOut, size_t kIn>
void map_random(Exec& exec, const Fn& fn, RandomKey key, const int64_t* samples,
                const std::array<View, kOut>& out, const std::array<View, kIn>& in) {
  launch_map<S>(exec, "map_random", fn, out, in,
                RandomExtra{key, samples, out[0].shape.per_sample()});
}

}  // namespace ringfort::cuda
