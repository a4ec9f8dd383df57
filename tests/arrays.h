// Arrays for tests of products: values in double and channels-last order, laid out in memory as any
// dtype and layout.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "kernels/aligned.h"
#include "kernels/indexing.h"
#include "kernels/view.h"

namespace ringfort {

using Values = std::vector<double>;  // (N, H, W, C), whatever the layout of the view

// Numbers in [-1, 1) without pattern, the same in each run.
inline Values some_values(int64_t count, uint64_t seed) {
  Values values(static_cast<size_t>(count));
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (double& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<double>(state >> 11) * 0x1p-52 - 1;
  }
  return values;
}

inline double rounded(double value, Dtype dtype) {
  if (dtype == Dtype::kFloat64) return value;
  if (dtype == Dtype::kFloat32) return static_cast<float>(value);
  return to_float(to_bfloat16(static_cast<float>(value)));
}

inline Values rounded(Values values, Dtype dtype) {
  for (double& value : values) value = rounded(value, dtype);
  return values;
}

inline Values absolute(Values values) {
  for (double& value : values) value = std::abs(value);
  return values;
}

// A 64-byte aligned buffer that ends where its view ends: with a sanitizer, one element too far is
// seen.
class Array {
 public:
  Array(const Shape& shape, Dtype dtype, Layout layout, const Values& values)
      : memory_(allocate(static_cast<size_t>(bytes_for(dtype, shape.count())))),
        view_{memory_.get(), dtype, shape, layout} {
    for_each([&](size_t position, int64_t offset) { store(offset, values[position]); });
  }
  Array(const Shape& shape, Dtype dtype, Layout layout = Layout::kChannelsLast)
      : Array(shape, dtype, layout, Values(static_cast<size_t>(shape.count()), 0.0)) {}
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  const View& view() const { return view_; }
  operator View() const { return view_; }

  Values values() const {
    Values values(static_cast<size_t>(view_.count()));
    for_each([&](size_t position, int64_t offset) { values[position] = load(offset); });
    return values;
  }

 private:
  static void* allocate(size_t bytes) {  // std::aligned_alloc would want a multiple of 64
    void* memory = nullptr;
    require(posix_memalign(&memory, 64, bytes) == 0, "out of memory");
    return memory;
  }
  template <class Visit>
  void for_each(Visit visit) const {
    const Shape& shape = view_.shape;
    size_t position = 0;
    for (int64_t n = 0; n < shape.n; ++n)
      for (int64_t pixel = 0; pixel < shape.h * shape.w; ++pixel)
        for (int64_t c = 0; c < shape.c; ++c) visit(position++, element_offset(view_, n, pixel, c));
  }
  void store(int64_t offset, double value) {
    if (view_.dtype == Dtype::kFloat64) view_.as<double>()[offset] = value;
    if (view_.dtype == Dtype::kFloat32) view_.as<float>()[offset] = static_cast<float>(value);
    if (view_.dtype == Dtype::kBFloat16)
      view_.as<BFloat16>()[offset] = to_bfloat16(static_cast<float>(value));
  }
  double load(int64_t offset) const {
    if (view_.dtype == Dtype::kFloat64) return view_.as<double>()[offset];
    if (view_.dtype == Dtype::kFloat32) return view_.as<float>()[offset];
    return to_float(view_.as<BFloat16>()[offset]);
  }

  AlignedMemory memory_;
  View view_;
};

// What a product may differ from the exact one, element by element. A sum of `terms` products in
// float32 differs by about sqrt(terms) units of roundoff (2^-24) of the sum of absolute products
// `magnitude` (Higham and Mary 2019: the probabilistic bound; the certain one has `terms` instead);
// 2 more for the products and the epilogue. Storing a bfloat16 result rounds it once more, by 2^-8
// of its value. Where the epilogue is kernels that take turns, as many times `earlier`: a product
// or a partial sum, of at most `magnitude`.
inline double tolerance(double exact, double magnitude, int64_t terms, Dtype result,
                        int earlier = 0) {
  constexpr double kRoundoff = 0x1p-8;  // of bfloat16
  double error = (std::sqrt(static_cast<double>(terms)) + 2) * 0x1p-24 * magnitude;
  if (result != Dtype::kBFloat16) return error;
  for (int rounding = 0; rounding < earlier; ++rounding) error += kRoundoff * (magnitude + error);
  return error + kRoundoff * (std::abs(exact) + error);
}

// The largest |actual - exact| / tolerance. Winograd's errors come from a whole tile and are up to
// 7 times those of a direct sum (measured, 32 and 128 channels): each element is held against the
// largest magnitude instead of its own, which leaves them at 0.03 to 0.3 of the tolerance.
inline double worst_ratio(const Values& actual, const Values& exact, const Values& magnitude,
                          int64_t terms, Dtype result, bool winograd = false, int earlier = 0) {
  const double largest = *std::max_element(magnitude.begin(), magnitude.end());
  double worst = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = std::abs(actual[i] - exact[i]);
    if (error == 0) continue;
    const double ratio =
        error / tolerance(exact[i], winograd ? largest : magnitude[i], terms, result, earlier);
    worst = std::isnan(ratio) ? INFINITY : std::max(worst, ratio);
  }
  return worst;
}

}  // namespace ringfort
