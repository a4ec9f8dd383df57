#include "kernels/activation.h"

#include "kernels/indexing.h"
#include "kernels/reduce.h"
#include "kernels/rows.h"

namespace ringfort {

void scale_shift(Exec& exec, View y, View x, View scale, View shift) {
  map_channels(exec, ScaleShift{}, {y}, {x}, {scale, shift});
}

void scale_backward(Exec& exec, View dx, View dy, View scale, float beta) {
  if (beta == 0)
    map_channels(exec, ScaleBackward{}, {dx}, {dy}, {scale});
  else
    map_channels(exec, ScaleBackward{}, {dx}, {dy, dx}, {scale});
}

void scale_shift_relu(Exec& exec, View y, View mask, View x, View scale, View shift) {
  map_channels(exec, ScaleShiftRelu{}, {y, mask}, {x}, {scale, shift});
}

void scale_relu_backward(Exec& exec, View dx, View dy, View mask, View scale, float beta) {
  if (beta == 0)
    map_channels(exec, MaskScaleBackward{}, {dx}, {dy, mask}, {scale});
  else
    map_channels(exec, MaskScaleBackward{}, {dx}, {dy, mask, dx}, {scale});
}

void relu(Exec& exec, View y, View mask, View x) { map(exec, Relu{}, {y, mask}, {x}); }

void relu_mask(Exec& exec, View mask, View y) { map(exec, IsPositive{}, {mask}, {y}); }

void relu_backward(Exec& exec, View dx, View dy, View mask, float beta) {
  if (beta == 0)
    map(exec, MaskBackward{}, {dx}, {dy, mask});
  else
    map(exec, MaskBackward{}, {dx}, {dy, mask, dx});
}

void bias_gradient(Exec& exec, View db, View dy, float beta) {
  channel_reduce(exec, Copy{}, {db}, {dy}, beta);
}

void accumulate(Exec& exec, View total, View part, float beta) {
  if (beta == 0)
    convert(exec, total, part);
  else
    add(exec, total, total, part);
}

void add(Exec& exec, View y, View a, View b) { map(exec, Add{}, {y}, {a, b}); }

void convert(Exec& exec, View y, View x) { map(exec, Copy{}, {y}, {x}); }

namespace {

struct Reorder {
  View y, x;
  HD void operator()(int64_t pixel) const {
    const int64_t plane = x.shape.h * x.shape.w, n = pixel / plane, at = pixel % plane;
    for (int64_t c = 0; c < x.shape.c; ++c) {
      const int64_t to = element_offset(y, n, at, c), from = element_offset(x, n, at, c);
      detail::store_element(y, to, detail::load_element<double>(x, from));
    }
  }
};

}  // namespace

void reorder(Exec& exec, View y, View x) {
  require(y.shape == x.shape, "reorder: shapes {} and {} differ", to_string(y.shape),
          to_string(x.shape));
  require(x.dtype != Dtype::kBit && y.dtype != Dtype::kBit,
          "reorder: a packed bit mask cannot be reordered");
  for_each(exec, x.shape.pixels(), x.shape.c, Reorder{y, x});
}

}  // namespace ringfort
