// row_reduce and channel_reduce: sums over a sample or over a channel. The functor maps elements to
// one or more terms; the launchers add them in a fixed order that does not depend on the number of
// threads, without atomics, the partial sums in double. Reruns are bit-identical.
#pragma once

#include <cmath>

#include "kernels/map.h"

#ifdef RINGFORT_DEVICE_CODE
#include "kernels/reduce_cuda.cuh"
#endif

namespace ringfort {
namespace detail {

// sums[k][lane] += the k-th term. By value and unrolled, as write_result in map.h.
template <class S, int kLanes>
inline void add_terms(S (*sums)[kLanes], int64_t lane, S result, std::index_sequence<0>) {
  sums[0][lane] += result;
}
template <class S, int kLanes, int kSums, size_t... kIndex>
inline void add_terms(S (*sums)[kLanes], int64_t lane, Results<S, kSums> result,
                      std::index_sequence<kIndex...>) {
  ((sums[kIndex][lane] += result.value[kIndex]), ...);
}

template <class Result>
struct TermOfImpl {
  using type = Result;
};
template <class S, int kSums>
struct TermOfImpl<Results<S, kSums>> {
  using type = S;
};
template <class Result>
using TermOf = typename TermOfImpl<Result>::type;

// Lanes that are summed side by side: fixed, so that the order of additions is too.
inline constexpr int kLanes = 16;

// sums[k] += the terms of elements [first, first + n).
template <class S, size_t kSums, class Fn, size_t kIn, size_t... kIndex>
void reduce_run(const Fn& fn, const std::array<View, kIn>& in, int64_t first, int64_t n,
                double* sums, std::index_sequence<kIndex...>) {
  alignas(64) S buffer[kIn][kRun];
  const S* sources[kIn];
  for (size_t k = 0; k < kIn; ++k) sources[k] = load_run<S>(in[k], first, n, buffer[k]);
  // A formula whose terms need more range than its elements returns them wider.
  using Term = TermOf<decltype(fn(sources[kIndex][0]...))>;
  alignas(64) Term lanes[kSums][kLanes] = {};
  constexpr auto kTerms = std::make_index_sequence<kSums>{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) add_terms(lanes, l, fn(sources[kIndex][i + l]...), kTerms);
  }
  for (; i < n; ++i) add_terms(lanes, i % kLanes, fn(sources[kIndex][i]...), kTerms);
  for (size_t k = 0; k < kSums; ++k)
    for (int l = 0; l < kLanes; ++l) sums[k] += static_cast<double>(lanes[k][l]);
}

// Parts into which the samples (or pixels) of a channel are cut; each is summed by one thread, then
// parts in order.
inline int64_t channel_parts(const Shape& shape, Layout layout) {
  return std::min<int64_t>(32, layout == Layout::kBlocked16 ? shape.n : (shape.pixels() + 63) / 64);
}

// n groups of `lanes` elements, `stride` apart, side by side into `buffer`.
template <class S>
const S* load_groups(const View& view, int64_t first, int64_t n, int64_t stride, int lanes,
                     S* buffer) {
  for (int64_t r = 0; r < n; ++r) {
    const int64_t begin = first + r * stride;
    S* to = buffer + r * kLanes;
    if (view.dtype == Dtype::kBFloat16 && lanes == kLanes) {
      const BFloat16* from = view.as<const BFloat16>() + begin;
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) to[l] = static_cast<S>(to_float(from[l]));
    } else {
      for (int l = 0; l < lanes; ++l) to[l] = load_element<S>(view, begin + l);
    }
  }
  return buffer;
}

// Sums over `rows` groups of `lanes` consecutive channels, `stride` elements apart, starting at
// element `first`.
template <class S, size_t kSums, class Fn, size_t kIn, size_t kParams, size_t... kInIndex,
          size_t... kParamIndex>
void reduce_lanes(const Fn& fn, const std::array<View, kIn>& in,
                  const S (&params)[kParams + 1][kLanes], int64_t first, int64_t rows,
                  int64_t stride, int lanes, double (*sums)[kLanes],
                  std::index_sequence<kInIndex...>, std::index_sequence<kParamIndex...>) {
  constexpr int64_t kRows = kRun / kLanes;
  constexpr auto kTerms = std::make_index_sequence<kSums>{};
  alignas(64) S buffer[kIn][kRun];
  for (int64_t r0 = 0; r0 < rows; r0 += kRows) {
    const int64_t n = std::min(kRows, rows - r0);
    const S* sources[kIn];
    int64_t pitch[kIn];  // elements from one group to the next
    for (size_t k = 0; k < kIn; ++k) {
      const int64_t begin = first + r0 * stride;
      pitch[k] = in[k].dtype == kDtypeOf<S> ? stride : kLanes;
      if (in[k].dtype == kDtypeOf<S> || stride == kLanes)
        sources[k] = load_run<S>(in[k], begin, n * stride, buffer[k]);
      else
        sources[k] = load_groups<S>(in[k], begin, n, stride, lanes, buffer[k]);
    }
    alignas(64) S partial[kSums][kLanes] = {};
    const auto add_row = [&](int64_t r, int count) {
#pragma omp simd
      for (int l = 0; l < count; ++l)
        add_terms(partial, l,
                  fn(sources[kInIndex][r * pitch[kInIndex] + l]..., params[kParamIndex][l]...),
                  kTerms);
    };
    if (lanes == kLanes)
      for (int64_t r = 0; r < n; ++r) add_row(r, kLanes);
    else
      for (int64_t r = 0; r < n; ++r) add_row(r, lanes);
    for (size_t k = 0; k < kSums; ++k)
      for (int l = 0; l < lanes; ++l) sums[k][l] += static_cast<double>(partial[k][l]);
  }
}

template <class S, size_t kSums, class Fn, size_t kIn, size_t kParams>
void channel_reduce_cpu(Exec& exec, const Fn& fn, const std::array<View, kSums>& out,
                        const std::array<View, kIn>& in, const std::array<View, kParams>& params,
                        float beta) {
  const Shape shape = in[0].shape;
  const Layout layout = in[0].layout;
  const int64_t blocks = (shape.c + kLanes - 1) / kLanes, parts = channel_parts(shape, layout);
  const int64_t plane = shape.h * shape.w;
  auto* partial = static_cast<double*>(
      exec.scratch(parts * blocks * static_cast<int64_t>(sizeof(double) * kSums * kLanes)));
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (shape.count() > kParallelElements)
  for (int64_t job = 0; job < parts * blocks; ++job) {
    const int64_t part = job / blocks, block = job % blocks;
    const int lanes = static_cast<int>(std::min<int64_t>(kLanes, shape.c - block * kLanes));
    alignas(64) S values[kParams + 1][kLanes] = {};
    for (int k = 0; k < static_cast<int>(kParams); ++k)  // signed: there may be none
      for (int l = 0; l < lanes; ++l) values[k][l] = load_element<S>(params[k], block * kLanes + l);
    alignas(64) double sums[kSums][kLanes] = {};
    const auto add = [&](int64_t first, int64_t rows, int64_t stride) {
      reduce_lanes<S, kSums, Fn, kIn, kParams>(fn, in, values, first, rows, stride, lanes, sums,
                                               std::make_index_sequence<kIn>{},
                                               std::make_index_sequence<kParams>{});
    };
    if (layout == Layout::kBlocked16) {
      for (int64_t n = part * shape.n / parts; n < (part + 1) * shape.n / parts; ++n)
        add((n * blocks + block) * plane * kLanes, plane, kLanes);
    } else {
      const int64_t begin = part * shape.pixels() / parts,
                    end = (part + 1) * shape.pixels() / parts;
      add(begin * shape.c + block * kLanes, end - begin, shape.c);
    }
    for (size_t k = 0; k < kSums; ++k)
      for (int l = 0; l < lanes; ++l)
        partial[(static_cast<int64_t>(k) * parts + part) * shape.c + block * kLanes + l] =
            sums[k][l];
  }
  for (size_t k = 0; k < kSums; ++k)
    for (int64_t c = 0; c < shape.c; ++c) {
      double sum = beta == 0 ? 0 : static_cast<double>(beta) * load_element<double>(out[k], c);
      for (int64_t part = 0; part < parts; ++part)
        sum += partial[(static_cast<int64_t>(k) * parts + part) * shape.c + c];
      store_element<double>(out[k], c, sum);
    }
}

template <class Fn, size_t kSums, size_t kIn, size_t kParams>
void channel_reduce(Exec& exec, const Fn& fn, const std::array<View, kSums>& out,
                    const std::array<View, kIn>& in, const std::array<View, kParams>& params,
                    float beta) {
  require_same_elements("channel_reduce", in, in);
  for (const View& view : out)
    require(view.count() == in[0].shape.c, "channel_reduce: {} sums for {} channels", view.count(),
            in[0].shape.c);
  if (exec.planned()) return;
  with_scalar(in, in, [&]<class S>(S) {
#ifdef RINGFORT_DEVICE_CODE
    if (exec.on_cuda()) return cuda::channel_reduce<S>(exec, fn, out, in, params, beta);
#endif
    channel_reduce_cpu<S>(exec, fn, out, in, params, beta);
  });
}

}  // namespace detail

// sums[k](n) = sum over the sample's elements of fn(in...)[k]. sums: vectors of N values, float32
// or float64.
template <class Fn, size_t kSums, size_t kIn>
void row_reduce(Exec& exec, const Fn& fn, const View (&sums)[kSums], const View (&inputs)[kIn]) {
  const auto out = std::to_array(sums);
  const auto in = std::to_array(inputs);
  detail::require_same_elements("row_reduce", in, in);
  const Shape shape = in[0].shape;
  for (const View& view : out)
    require(view.count() == shape.n, "row_reduce: {} sums for {} samples", view.count(), shape.n);
  if (exec.planned()) return;
  detail::with_scalar(in, in, [&]<class S>(S) {
#ifdef RINGFORT_DEVICE_CODE
    if (exec.on_cuda()) return cuda::row_reduce<S>(exec, fn, out, in);
#endif
    const int64_t length = shape.per_sample();
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (shape.count() > detail::kParallelElements)
    for (int64_t n = 0; n < shape.n; ++n) {
      double total[kSums] = {};
      for (int64_t i = 0; i < length; i += detail::kRun)
        detail::reduce_run<S, kSums>(fn, in, n * length + i, std::min(detail::kRun, length - i),
                                     total, std::make_index_sequence<kIn>{});
      for (size_t k = 0; k < kSums; ++k) detail::store_element<double>(out[k], n, total[k]);
    }
  });
}

// sums[k](c) = beta sums[k](c) + sum over samples and pixels of fn(in..., parameter(c)...)[k]; beta
// 0 or 1.
template <class Fn, size_t kSums, size_t kIn, size_t kParams>
void channel_reduce(Exec& exec, const Fn& fn, const View (&sums)[kSums], const View (&inputs)[kIn],
                    const View (&parameters)[kParams], float beta = 0) {
  detail::channel_reduce(exec, fn, std::to_array(sums), std::to_array(inputs),
                         std::to_array(parameters), beta);
}
// The same without channel parameters.
template <class Fn, size_t kSums, size_t kIn>
void channel_reduce(Exec& exec, const Fn& fn, const View (&sums)[kSums], const View (&inputs)[kIn],
                    float beta = 0) {
  detail::channel_reduce(exec, fn, std::to_array(sums), std::to_array(inputs),
                         std::array<View, 0>{}, beta);
}

}  // namespace ringfort
