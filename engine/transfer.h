// Between vectors of the host and tensors of the device.
#pragma once

#include <span>
#include <vector>

#include "engine/tensor.h"
#include "kernels/device_memory.h"

namespace ringfort {

template <class T>
constexpr Dtype dtype_of();
template <>
constexpr Dtype dtype_of<float>() {
  return Dtype::kFloat32;
}
template <>
constexpr Dtype dtype_of<double>() {
  return Dtype::kFloat64;
}
template <>
constexpr Dtype dtype_of<int32_t>() {
  return Dtype::kInt32;
}
template <>
constexpr Dtype dtype_of<int64_t>() {
  return Dtype::kInt64;
}
template <>
constexpr Dtype dtype_of<uint8_t>() {
  return Dtype::kUint8;
}

// The values, as many as `shape` has, on the device of the pool.
template <class T>
Tensor to_tensor(Exec& exec, Pool& pool, const Shape& shape, std::span<const T> values) {
  require(static_cast<int64_t>(values.size()) == shape.count(), "to_tensor: {} values for {}",
          values.size(), to_string(shape));
  Tensor tensor(pool, shape, dtype_of<T>());
  to_device(exec, tensor, values.data());
  return tensor;
}

// Waits for the device. REQUIRES: T is the C++ type of the view's dtype.
template <class T>
std::vector<T> to_vector(Exec& exec, const View& view) {
  require(view.dtype == dtype_of<T>(), "to_vector: the view is {}", to_string(view.dtype));
  std::vector<T> values(static_cast<size_t>(view.count()));
  to_host(exec, values.data(), view);
  return values;
}

}  // namespace ringfort
