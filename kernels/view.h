// View: what a kernel sees of a tensor. Pointer, element type, shape, layout; at most four
// dimensions, always dense. It owns nothing and has no strides: a kernel that needs another order
// of elements asks for another layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/bfloat16.h"
#include "kernels/error.h"
#include "kernels/hd.h"

namespace ringfort {

enum class Dtype : uint8_t {
  kFloat32,
  kBFloat16,
  kFloat64,
  kInt32,
  kInt64,  // numbers of samples
  kUint8,
  kBit,  // one bit per element, packed from the lowest bit of each byte: what is kept of a ReLU
};

// Order of the elements in memory. Filters (O, kH, kW, I) are always kChannelsLast.
enum class Layout : uint8_t {
  kChannelsLast,  // (N, H, W, C)
  kBlocked16,     // (N, C/16, H, W, 16): what oneDNN's fastest float32 convolutions need; C is a
                  // multiple of 16
};

// A matrix (rows, columns) is {rows, 1, 1, columns}; a vector of length c is {1, 1, 1, c}.
struct Shape {
  int64_t n = 0, h = 1, w = 1, c = 1;

  HD int64_t count() const { return n * h * w * c; }
  HD int64_t per_sample() const { return h * w * c; }
  HD int64_t pixels() const { return n * h * w; }
  friend bool operator==(const Shape&, const Shape&) = default;
};

inline Shape vector_shape(int64_t c) { return {1, 1, 1, c}; }
inline Shape matrix_shape(int64_t rows, int64_t columns) { return {rows, 1, 1, columns}; }

std::string to_string(const Shape& shape);         // "(128, 32, 32, 3)"
std::string_view to_string(Dtype dtype);           // "float32"
int64_t bytes_for(Dtype dtype, int64_t elements);  // kBit rounds up to whole 64-bit words

struct View {
  void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  Shape shape;
  Layout layout = Layout::kChannelsLast;

  int64_t count() const { return shape.count(); }
  int64_t bytes() const { return bytes_for(dtype, count()); }

  // The elements as T; REQUIRES: T is the C++ type of dtype.
  template <class T>
  HD T* as() const {
    return static_cast<T*>(data);
  }
  // Samples [first, first + count) of this view. REQUIRES: dtype is not kBit.
  View samples(int64_t first, int64_t count) const;
};

// The same elements seen with another shape of equal count; REQUIRES kChannelsLast or one pixel per
// sample.
View reshaped(View view, Shape shape);

}  // namespace ringfort
