#include "kernels/activation.h"

#include "kernels/indexing.h"
#include "kernels/reduce.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

// The value alone, without keeping a mask.
template <class Fn>
struct WithoutMask {
  template <class... S>
  HD auto operator()(S... operands) const {
    return Fn{}(operands...).value[0];
  }
};

// dx = fn(dy, kept) + beta dx
template <class Fn>
void backward(Exec& exec, const Fn& fn, View dx, View dy, View kept, float beta) {
  if (beta == 0)
    map(exec, fn, {dx}, {dy, kept});
  else
    map(exec, fn, {dx}, {dy, kept, dx});
}

}  // namespace

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

void scale_shift_relu(Exec& exec, View y, View x, View scale, View shift) {
  map_channels(exec, WithoutMask<ScaleShiftRelu>{}, {y}, {x}, {scale, shift});
}

void scale_shift_add_relu(Exec& exec, View y, View mask, View x, View residual, View scale,
                          View shift) {
  if (mask.data)
    map_channels(exec, ScaleShiftAddRelu{}, {y, mask}, {x, residual}, {scale, shift});
  else
    map_channels(exec, WithoutMask<ScaleShiftAddRelu>{}, {y}, {x, residual}, {scale, shift});
}

void gate_backward(Exec& exec, View dx, View dy, const GradientGate& gate, float beta) {
  if (gate.mask.data == nullptr) return scale_backward(exec, dx, dy, gate.scale, beta);
  const bool scaled = gate.scale.data != nullptr;
  if (scaled && beta == 0)
    map_channels(exec, MaskScaleBackward{}, {dx}, {dy, gate.mask}, {gate.scale});
  else if (scaled)
    map_channels(exec, MaskScaleBackward{}, {dx}, {dy, gate.mask, dx}, {gate.scale});
  else
    backward(exec, MaskBackward{}, dx, dy, gate.mask, beta);
}

void relu(Exec& exec, View y, View mask, View x) { map(exec, Relu{}, {y, mask}, {x}); }

void relu_mask(Exec& exec, View mask, View y) { map(exec, IsPositive{}, {mask}, {y}); }

void leaky_relu(Exec& exec, View y, View mask, View x, double slope) {
  map(exec, LeakyRelu{slope}, {y, mask}, {x});
}
void leaky_relu_backward(Exec& exec, View dx, View dy, View mask, double slope, float beta) {
  backward(exec, LeakyReluBackward{slope}, dx, dy, mask, beta);
}

void silu(Exec& exec, View y, View x) { map(exec, Silu{}, {y}, {x}); }
void silu_backward(Exec& exec, View dx, View dy, View x, float beta) {
  backward(exec, SiluBackward{}, dx, dy, x, beta);
}

void softplus(Exec& exec, View y, View x, double sharpness) {
  map(exec, Softplus{sharpness}, {y}, {x});
}
void softplus_backward(Exec& exec, View dx, View dy, View x, double sharpness, float beta) {
  backward(exec, SoftplusBackward{sharpness}, dx, dy, x, beta);
}

void add_bias(Exec& exec, View y, View bias, bool rectify) {
  map_channels(exec, AddBias{rectify}, {y}, {y}, {bias});
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

struct CopyChannels {
  View to, from;
  float beta;
  HD void operator()(int64_t i) const {
    const int64_t pixel = i / to.shape.c, c = i % to.shape.c;
    double value = 0;
    if (c < from.shape.c) {
      value = detail::load_element<double>(from, pixel * from.shape.c + c);
      if (beta != 0) value += static_cast<double>(beta) * detail::load_element<double>(to, i);
    }
    detail::store_element(to, i, value);
  }
};

// One pixel per call: its channels lie together in one layout and 16 at a time in the other.
template <class T>
struct Reorder {
  View y, x;
  HD void operator()(int64_t pixel) const {
    const int64_t plane = x.shape.h * x.shape.w, n = pixel / plane, at = pixel % plane;
    const int64_t channels = x.shape.c;
    for (int64_t c = 0; c < channels; c += 16) {
      T* to = y.as<T>() + element_offset(y, n, at, c);
      const T* from = x.as<const T>() + element_offset(x, n, at, c);
      const int64_t count = channels - c < 16 ? channels - c : 16;
      for (int64_t k = 0; k < count; ++k) to[k] = from[k];
    }
  }
};

template <class T>
void reorder_as(Exec& exec, View y, View x) {
  for_each(exec, x.shape.pixels(), x.shape.c, Reorder<T>{y, x});
}

}  // namespace

void copy_channels(Exec& exec, View to, View from, float beta) {
  require(to.shape.pixels() == from.shape.pixels() && to.layout == Layout::kChannelsLast &&
              from.layout == Layout::kChannelsLast,
          "copy_channels: {} and {} are not the same pixels, channels last", to_string(to.shape),
          to_string(from.shape));
  for_each(exec, to.count(), 1, CopyChannels{to, from, beta});
}

void reorder(Exec& exec, View y, View x) {
  require(y.shape == x.shape && y.dtype == x.dtype, "reorder: {} {} and {} {} differ",
          to_string(y.dtype), to_string(y.shape), to_string(x.dtype), to_string(x.shape));
  switch (x.dtype) {
    case Dtype::kFloat64:
      return reorder_as<double>(exec, y, x);
    case Dtype::kFloat32:
      return reorder_as<float>(exec, y, x);
    case Dtype::kInt32:
      return reorder_as<int32_t>(exec, y, x);
    case Dtype::kInt64:
      return reorder_as<int64_t>(exec, y, x);
    case Dtype::kBFloat16:
      return reorder_as<BFloat16>(exec, y, x);
    case Dtype::kUint8:
      return reorder_as<uint8_t>(exec, y, x);
    case Dtype::kBit:
      fail("reorder: a packed bit mask keeps its layout");
  }
}

}  // namespace ringfort
