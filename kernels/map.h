// map, map_channels, map_random: elementwise launchers. The mathematics is a functor templated on
// the scalar, written once; the loops, tails, vector loads and dtype conversions are here, for the
// CPU and (map_cuda.cuh) for CUDA.
//
//   map(exec, LinfStep{alpha, eps, 0, 1}, {x_adv}, {x_adv, grad, x_nat});
//
// Results do not depend on the number of threads: every element is computed on its own. Outputs may
// alias inputs.
#pragma once

#include <utility>

#include "kernels/exec.h"
#include "kernels/philox_lanes.h"
#include "kernels/slots.h"

#ifdef RINGFORT_DEVICE_CODE
#include "kernels/map_cuda.cuh"
#endif

namespace ringfort {
namespace detail {

// Below this many elements the cost of waking threads exceeds the work.
inline constexpr int64_t kParallelElements = 16384;

template <class Result>
inline constexpr bool kSeveral = false;
template <class S, int kCount>
inline constexpr bool kSeveral<Results<S, kCount>> = true;

// Outputs are written by indices known at compile time, from a local copy of the result: anything
// else keeps the loop over elements from vectorising.
template <class S, class Fn, size_t... kOut, size_t... kIn, size_t... kExtra>
inline void apply_run(const Fn& fn, S* const* out, const S* const* in, const S* const* extra,
                      int64_t n, std::index_sequence<kOut...>, std::index_sequence<kIn...>,
                      std::index_sequence<kExtra...>) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const auto result = fn(in[kIn][i]..., extra[kExtra][i]...);
    if constexpr (kSeveral<std::remove_const_t<decltype(result)>>)
      ((out[kOut][i] = result.value[kOut]), ...);
    else
      out[0][i] = result;
  }
}

// The same with extra values that repeat every 16 elements: the channels of a block.
template <class S, class Fn, size_t... kOut, size_t... kIn, size_t... kExtra>
inline void apply_rows16(const Fn& fn, S* const* out, const S* const* in, const S* const* extra,
                         int64_t n, std::index_sequence<kOut...>, std::index_sequence<kIn...>,
                         std::index_sequence<kExtra...>) {
  for (int64_t r = 0; r < n; r += 16) {
#pragma omp simd
    for (int64_t l = 0; l < 16; ++l) {
      const auto result = fn(in[kIn][r + l]..., extra[kExtra][l]...);
      if constexpr (kSeveral<std::remove_const_t<decltype(result)>>)
        ((out[kOut][r + l] = result.value[kOut]), ...);
      else
        out[0][r + l] = result;
    }
  }
}

enum class Extra { kPerElement, kPer16 };

// Elements [first, first + n) of every view through the functor; `extra` values (channel
// parameters, random words) follow the inputs in the functor's argument list.
template <class S, size_t kExtra, Extra kKind = Extra::kPerElement, class Fn, size_t kOut,
          size_t kIn>
void map_run(const Fn& fn, const std::array<View, kOut>& out, const std::array<View, kIn>& in,
             int64_t first, int64_t n, const std::array<const S*, kExtra>& extra) {
  alignas(64) S in_buffer[kIn + 1][kRun];
  alignas(64) S out_buffer[kOut][kRun];
  const S* sources[kIn + 1];
  S* targets[kOut];
  for (size_t k = 0; k < kIn; ++k) sources[k] = load_run<S>(in[k], first, n, in_buffer[k]);
  for (size_t k = 0; k < kOut; ++k) targets[k] = run_target<S>(out[k], first, out_buffer[k]);
  constexpr auto kOutputs = std::make_index_sequence<kOut>{};
  constexpr auto kInputs = std::make_index_sequence<kIn>{};
  constexpr auto kExtras = std::make_index_sequence<kExtra>{};
  if constexpr (kKind == Extra::kPer16)
    apply_rows16<S>(fn, targets, sources, extra.data(), n, kOutputs, kInputs, kExtras);
  else
    apply_run<S>(fn, targets, sources, extra.data(), n, kOutputs, kInputs, kExtras);
  for (size_t k = 0; k < kOut; ++k) store_run<S>(out[k], first, n, out_buffer[k]);
}

template <class S, class Fn, size_t kOut, size_t kIn>
void map_cpu(Exec& exec, const Fn& fn, const std::array<View, kOut>& out,
             const std::array<View, kIn>& in) {
  const int64_t count = out[0].count();
  const int64_t runs = (count + kRun - 1) / kRun;
#pragma omp parallel for schedule(static) num_threads(exec.threads()) if (count > kParallelElements)
  for (int64_t run = 0; run < runs; ++run) {
    const int64_t first = run * kRun;
    map_run<S, 0>(fn, out, in, first, std::min(kRun, count - first), std::array<const S*, 0>{});
  }
}

// Channel parameters repeated along a run, so that the functor's loop has no index arithmetic.
template <class S, size_t kParams>
struct ChannelRuns {
  alignas(64) S values[kParams][kRun];
  std::array<const S*, kParams> pointers;

  ChannelRuns() {
    for (size_t k = 0; k < kParams; ++k) pointers[k] = values[k];
  }
  // Fills n elements with parameters of channels first_channel, ..., repeating every `period`
  // elements.
  void fill(const std::array<View, kParams>& params, int64_t first_channel, int64_t period,
            int64_t n) {
    for (size_t k = 0; k < kParams; ++k) {
      for (int64_t i = 0; i < std::min(period, n); ++i)
        values[k][i] = load_element<S>(params[k], first_channel + i);
      for (int64_t i = period; i < n; ++i) values[k][i] = values[k][i - period];
    }
  }
  // Parameters of n channels, converted only where they must be.
  void point_to(const std::array<View, kParams>& params, int64_t first_channel, int64_t n) {
    for (size_t k = 0; k < kParams; ++k)
      pointers[k] = load_run<S>(params[k], first_channel, n, values[k]);
  }
  // Fills n elements with the parameters of `channel`, channel + 1, ..., starting over after the
  // last channel.
  void fill_wrapping(const std::array<View, kParams>& params, int64_t channel, int64_t channels,
                     int64_t n) {
    for (size_t k = 0; k < kParams; ++k)
      for (int64_t i = 0, c = channel; i < n; ++i, c = c + 1 < channels ? c + 1 : 0)
        values[k][i] = load_element<S>(params[k], c);
  }
};

template <class S, class Fn, size_t kOut, size_t kIn, size_t kParams>
void map_channels_blocked(Exec& exec, const Fn& fn, const std::array<View, kOut>& out,
                          const std::array<View, kIn>& in,
                          const std::array<View, kParams>& params) {
  const Shape shape = out[0].shape;
  const int64_t blocks = shape.c / 16, plane = shape.h * shape.w * 16;
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (shape.count() > kParallelElements)
  for (int64_t job = 0; job < shape.n * blocks; ++job) {
    alignas(64) S values[kParams][16];
    std::array<const S*, kParams> pointers;
    for (size_t k = 0; k < kParams; ++k) {
      pointers[k] = values[k];
      for (int64_t l = 0; l < 16; ++l)
        values[k][l] = load_element<S>(params[k], job % blocks * 16 + l);
    }
    for (int64_t i = 0; i < plane; i += kRun)
      map_run<S, kParams, Extra::kPer16>(fn, out, in, job * plane + i, std::min(kRun, plane - i),
                                         pointers);
  }
}

template <class S, class Fn, size_t kOut, size_t kIn, size_t kParams>
void map_channels_last(Exec& exec, const Fn& fn, const std::array<View, kOut>& out,
                       const std::array<View, kIn>& in, const std::array<View, kParams>& params) {
  const Shape shape = out[0].shape;
  // 8 pixels keep bit masks on whole bytes for any number of channels; a job is 16 runs, because
  // laying out the parameters costs as much as a run.
  const int64_t pixels_per_run = std::max<int64_t>(8, kRun / shape.c / 8 * 8);
  const int64_t pixels_per_job = 16 * pixels_per_run;
  const int64_t jobs = (shape.pixels() + pixels_per_job - 1) / pixels_per_job;
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (shape.count() > kParallelElements)
  for (int64_t job = 0; job < jobs; ++job) {
    ChannelRuns<S, kParams> runs;
    const int64_t end = std::min(shape.pixels(), (job + 1) * pixels_per_job);
    if (shape.c * 8 <= kRun) {
      runs.fill(params, 0, shape.c, std::min(pixels_per_run, end - job * pixels_per_job) * shape.c);
      for (int64_t p = job * pixels_per_job; p < end; p += pixels_per_run)
        map_run<S, kParams>(fn, out, in, p * shape.c, std::min(pixels_per_run, end - p) * shape.c,
                            runs.pointers);
      continue;
    }
    if (shape.c % 8 == 0) {  // many channels: a run is a part of one pixel
      for (int64_t c = 0; c < shape.c; c += kRun) {
        const int64_t n = std::min(kRun, shape.c - c);
        runs.point_to(params, c, n);
        for (int64_t p = job * pixels_per_job; p < end; ++p)
          map_run<S, kParams>(fn, out, in, p * shape.c + c, n, runs.pointers);
      }
      continue;
    }
    const int64_t first = job * pixels_per_job * shape.c, last = end * shape.c;
    for (int64_t i = first; i < last; i += kRun) {  // the parameters wrap inside the run
      const int64_t n = std::min(kRun, last - i);
      runs.fill_wrapping(params, i % shape.c, shape.c, n);
      map_run<S, kParams>(fn, out, in, i, n, runs.pointers);
    }
  }
}

}  // namespace detail

// out... = fn(in...) for every element. One output: fn returns S; several: fn returns Results<S,
// kOut>. All views have one shape and one layout; dtypes are free, kBit included. A functor with
// resolve() reads its numbers where and when it runs (SgdUpdate in kernels/update.h).
template <class Fn, size_t kOut, size_t kIn>
void map(Exec& exec, const Fn& fn, const View (&outputs)[kOut], const View (&inputs)[kIn]) {
  const auto out = std::to_array(outputs);
  const auto in = std::to_array(inputs);
  detail::require_same_elements("map", out, in);
  if (exec.planned()) return;
  detail::with_scalar(out, in, [&]<class S>(S) {
#ifdef RINGFORT_DEVICE_CODE
    if (exec.on_cuda()) return cuda::map<S>(exec, fn, out, in);
#endif
    detail::map_cpu<S>(exec, detail::resolved(fn), out, in);
  });
}

// As map; fn also gets each channel parameter's value for the element's channel: fn(in...,
// parameter...). parameters: vectors of length C.
template <class Fn, size_t kOut, size_t kIn, size_t kParams>
void map_channels(Exec& exec, const Fn& fn, const View (&outputs)[kOut], const View (&inputs)[kIn],
                  const View (&parameters)[kParams]) {
  const auto out = std::to_array(outputs);
  const auto in = std::to_array(inputs);
  const auto params = std::to_array(parameters);
  detail::require_same_elements("map_channels", out, in);
  for (const View& view : params)
    require(view.count() == out[0].shape.c, "map_channels: {} values for {} channels", view.count(),
            out[0].shape.c);
  if (exec.planned()) return;
  detail::with_scalar(out, in, [&]<class S>(S) {
#ifdef RINGFORT_DEVICE_CODE
    if (exec.on_cuda()) return cuda::map_channels<S>(exec, fn, out, in, params);
#endif
    if (out[0].layout == Layout::kBlocked16)
      detail::map_channels_blocked<S>(exec, fn, out, in, params);
    else
      detail::map_channels_last<S>(exec, fn, out, in, params);
  });
}

// out = fn(in..., u) with u uniform in (0, 1) from (key, samples[n], element within the sample):
// the same number whatever the batch, the thread or the rank. samples: one data-set index per
// sample; channels last only.
template <class Fn, size_t kIn>
void map_random(Exec& exec, const Fn& fn, RandomKey key, const int64_t* samples, View output,
                const View (&inputs)[kIn]) {
  const std::array<View, 1> out = {output};
  const auto in = std::to_array(inputs);
  detail::require_same_elements("map_random", out, in);
  require(output.layout == Layout::kChannelsLast, "map_random: views must be channels last");
  if (exec.planned()) return;
  detail::with_scalar(out, in, [&]<class S>(S) {
#ifdef RINGFORT_DEVICE_CODE
    if (exec.on_cuda()) return cuda::map_random<S>(exec, fn, key, samples, out, in);
#endif
    const int64_t length = output.shape.per_sample(),
                  runs = (length + detail::kRun - 1) / detail::kRun;
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (output.count() > detail::kParallelElements)
    for (int64_t job = 0; job < output.shape.n * runs; ++job) {
      const int64_t sample = job / runs, first = job % runs * detail::kRun;
      const int64_t n = std::min(detail::kRun, length - first);
      alignas(64) S uniform[detail::kRun];
      detail::uniform_run(key, static_cast<uint64_t>(samples[sample]), first, n, uniform);
      detail::map_run<S, 1>(fn, out, in, sample * length + first, n,
                            std::array<const S*, 1>{uniform});
    }
  });
}

}  // namespace ringfort
