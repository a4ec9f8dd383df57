// Between plain vectors of double in channels-last order and the tensors and parameters of the
// engine, in any dtype and layout. Numbers made here can be held exactly by bfloat16, so that
// passes in all dtypes start from the same ones.
#pragma once

#include <cstring>
#include <string_view>

#include "engine/pass.h"
#include "kernels/indexing.h"
#include "tests/testing.h"

namespace ringfort::testing {

using Vector = std::vector<double>;

// visit(index in channels-last order, offset in memory) for every element.
template <class Visit>
void each_element(const View& view, Visit&& visit) {
  const int64_t plane = view.shape.h * view.shape.w;
  size_t i = 0;
  for (int64_t n = 0; n < view.shape.n; ++n)
    for (int64_t pixel = 0; pixel < plane; ++pixel)
      for (int64_t c = 0; c < view.shape.c; ++c) visit(i++, element_offset(view, n, pixel, c));
}

inline void assign(const View& view, const Vector& values) {
  require(static_cast<int64_t>(values.size()) == view.count(), "assign: {} values for {}",
          values.size(), to_string(view.shape));
  each_element(view, [&](size_t i, int64_t at) { detail::store_element(view, at, values[i]); });
}

inline Vector values_of(const View& view) {
  Vector values(static_cast<size_t>(view.count()));
  each_element(view,
               [&](size_t i, int64_t at) { values[i] = detail::load_element<double>(view, at); });
  return values;
}

inline Tensor tensor_of(Pool& pool, const Shape& shape, const Vector& values,
                        Dtype dtype = Dtype::kFloat64, Layout layout = Layout::kChannelsLast) {
  Tensor tensor(pool, shape, dtype, layout);
  assign(tensor, values);
  return tensor;
}

// Uniform in (low, high), as bfloat16 holds them.
inline Vector exact_vector(int64_t count, uint64_t seed, double low = -1, double high = 1) {
  return rounded_to(Dtype::kBFloat16, random_vector(count, seed, low, high));
}

inline double dot(const Vector& a, const Vector& b) {
  require(a.size() == b.size(), "dot: {} and {} values", a.size(), b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

inline Vector moved(Vector x, const Vector& direction, double step) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += step * direction[i];
  return x;
}

inline std::vector<std::byte> bytes_of(const View& view) {
  std::vector<std::byte> bytes(static_cast<size_t>(view.bytes()));
  if (!bytes.empty()) std::memcpy(bytes.data(), view.data, bytes.size());
  return bytes;
}

// What no computation here leaves behind: a NaN in every element.
inline void poison(const View& view) {
  std::memset(view.data, 0xFF, static_cast<size_t>(view.bytes()));
}

// Weights that keep activations of order 1 behind a ReLU; norms, biases and statistics unlike their
// initial values.
inline void randomize(Exec& exec, ParamStore& params, uint64_t seed) {
  for (const ParamId id : params.in_memory_order()) {
    const Segment& segment = params.segment(id);
    double low = -0.5, high = 0.5;
    if (segment.kind == ParamKind::kNormScale) low = 0.5, high = 1.5;
    if (segment.kind == ParamKind::kConvWeight || segment.kind == ParamKind::kLinearWeight) {
      high = std::sqrt(6.0 / static_cast<double>(segment.shape.per_sample()));
      low = -high;
    }
    const uint64_t own_seed = seed * 1000 + static_cast<uint64_t>(id);
    assign(params.master(id), exact_vector(segment.shape.count(), own_seed, low, high));
  }
  for (size_t i = 0; i < params.statistics().size(); ++i) {
    const View view = params.statistic(static_cast<StatId>(i));
    const bool variance = params.statistics()[i].kind == ParamKind::kRunningVariance;
    assign(view, exact_vector(view.count(), seed * 1000 + 500 + i, variance ? 0.5 : -0.5,
                              variance ? 1.5 : 0.5));
  }
  params.master_changed(exec);
  params.statistics_changed();
}

}  // namespace ringfort::testing
