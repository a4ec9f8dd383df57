// Small helpers shared by the tests: reproducible random vectors, a buffer that owns what a View
// points to and speaks in logical (channels last) order, error measures, central differences.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/philox.h"
#include "kernels/slots.h"
#include "kernels/view.h"
#include "tests/test_device.h"

namespace ringfort::testing {

// `count` numbers uniform in (low, high); equal seeds give equal numbers on every machine.
inline std::vector<double> random_vector(int64_t count, uint64_t seed, double low = -1,
                                         double high = 1) {
  const RandomKey key{seed, Purpose::kTest, 0};
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] =
        low + (high - low) * static_cast<double>(uniform01(key.word(0, static_cast<uint32_t>(i))));
  return values;
}

// Integers uniform in [low, high], as doubles: exact in every dtype up to 256.
inline std::vector<double> random_integers(int64_t count, uint64_t seed, int low, int high) {
  std::vector<double> values = random_vector(count, seed, low, high + 1);
  for (double& value : values) value = std::floor(value);
  return values;
}

// |a - b| relative to the larger of the two; 0 for equal numbers, zeros included.
inline double relative_error(double a, double b) {
  return a == b ? 0 : std::abs(a - b) / std::max(std::abs(a), std::abs(b));
}

// Largest |a_i - b_i| relative to the largest |b_i|: what a whole tensor is judged by.
// Infinite where the lengths differ or a number is not finite.
inline double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double difference = 0, scale = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    difference = std::max(difference, std::abs(a[i] - b[i]));
    scale = std::max(scale, std::abs(b[i]));
  }
  return difference == 0 ? 0 : difference / scale;
}

// (f(x + h e_i) - f(x - h e_i)) / 2h. In float64 and for smooth f of order 1, h = 6e-6 leaves an
// error of about 1e-10.
template <class F>
double central_difference(const F& f, std::vector<double> x, size_t i, double h = 6e-6) {
  const double at = x[i];
  x[i] = at + h;
  const double above = f(x);
  x[i] = at - h;
  return (above - f(x)) / (2 * h);
}

// Owns the elements of a view. Values go in and come out in channels-last order whatever the
// layout. The memory is exactly as long as the view, so that a sanitizer sees every access beyond
// it.
class Buffer {
 public:
  Buffer(Dtype dtype, Shape shape, Layout layout = Layout::kChannelsLast)
      : bytes_(static_cast<size_t>(bytes_for(dtype, shape.count())), std::byte{0xA5}) {
    view_ = {bytes_.data(), dtype, shape, layout};
  }
  Buffer(Dtype dtype, Shape shape, const std::vector<double>& values,
         Layout layout = Layout::kChannelsLast)
      : Buffer(dtype, shape, layout) {
    set(values);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&&) = default;  // the memory does not move

  const View& view() const { return view_; }
  operator const View&() const { return view_; }
  const DeviceVector<std::byte>& bytes() const {
    settle();
    return bytes_;
  }

  void set(const std::vector<double>& values) {
    require(static_cast<int64_t>(values.size()) == view_.count(), "Buffer: {} values for {}",
            values.size(), to_string(view_.shape));
    for (size_t i = 0; i < values.size(); ++i) {
      const int64_t at = offset(static_cast<int64_t>(i));
      if (view_.dtype != Dtype::kBit) {
        detail::store_element(view_, at, values[i]);
        continue;
      }
      const auto bit = std::byte{1} << (at % 8);
      std::byte& byte = bytes_[static_cast<size_t>(at / 8)];
      byte = values[i] != 0 ? byte | bit : byte & ~bit;
    }
  }
  std::vector<double> values() const {
    settle();
    std::vector<double> result(static_cast<size_t>(view_.count()));
    for (size_t i = 0; i < result.size(); ++i)
      result[i] = detail::load_element<double>(view_, offset(static_cast<int64_t>(i)));
    return result;
  }

 private:
  // Where element i in channels-last order lies in memory.
  int64_t offset(int64_t i) const {
    if (view_.layout == Layout::kChannelsLast) return i;
    const int64_t channels = view_.shape.c, plane = view_.shape.h * view_.shape.w;
    const int64_t c = i % channels, pixel = i / channels % plane, n = i / channels / plane;
    const int64_t block = n * (channels / 16) + c / 16;
    return (block * plane + pixel) * 16 + c % 16;
  }

  DeviceVector<std::byte> bytes_;
  View view_;
};

// The values as the dtype can hold them: what a test must feed to its own plain loop.
inline std::vector<double> rounded_to(Dtype dtype, const std::vector<double>& values) {
  return Buffer(dtype, vector_shape(static_cast<int64_t>(values.size())), values).values();
}

}  // namespace ringfort::testing
