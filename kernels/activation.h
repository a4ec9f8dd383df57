// Elementwise functors of the network body: activation, per-channel scale and shift, addition; and
// their launches. Views of one call share shape and layout; y may be x. `beta` 0 overwrites dx, 1
// adds to it (residual branches).
#pragma once

#include "kernels/elementary.h"
#include "kernels/exec.h"
#include "kernels/scalar.h"
#include "kernels/slots.h"

namespace ringfort {

struct ScaleShift {
  template <class S>
  HD S operator()(S x, S scale, S shift) const {
    return x * scale + shift;
  }
};

// {relu(scale x + shift), 1 where it is positive}
struct ScaleShiftRelu {
  template <class S>
  HD Results<S, 2> operator()(S x, S scale, S shift) const {
    const S z = x * scale + shift;
    const bool on = z > S(0);
    return {{on ? z : S(0), on ? S(1) : S(0)}};
  }
};

// {relu(scale x + shift + residual), 1 where it is positive}
struct ScaleShiftAddRelu {
  template <class S>
  HD Results<S, 2> operator()(S x, S residual, S scale, S shift) const {
    const S z = x * scale + shift + residual;
    const bool on = z > S(0);
    return {{on ? z : S(0), on ? S(1) : S(0)}};
  }
};

// {relu(x), 1 where it is positive}
struct Relu {
  template <class S>
  HD Results<S, 2> operator()(S x) const {
    const bool on = x > S(0);
    return {{on ? x : S(0), on ? S(1) : S(0)}};
  }
};

struct IsPositive {
  template <class S>
  HD S operator()(S x) const {
    return x > S(0) ? S(1) : S(0);  // S(bool) does not vectorise
  }
};

// {x where it is positive, else slope x; 1 where it is positive}
struct LeakyRelu {
  double slope;
  template <class S>
  HD Results<S, 2> operator()(S x) const {
    const bool on = x > S(0);
    return {{on ? x : S(slope) * x, on ? S(1) : S(0)}};
  }
};
struct LeakyReluBackward {
  double slope;
  template <class S>
  HD S operator()(S dy, S mask) const {
    return mask != S(0) ? dy : S(slope) * dy;
  }
  template <class S>
  HD S operator()(S dy, S mask, S dx) const {
    return dx + (*this)(dy, mask);
  }
};

// 1 / (1 + exp(-x)), by exp(-|x|), which overflows for no x
template <class S>
HD inline S sigmoid(S x) {
  const bool negative = x < S(0);
  const S e = exp_below_zero(negative ? x : S(0) - x);
  const S share = S(1) / (S(1) + e);
  return negative ? e * share : share;
}

// x sigmoid(x): SiLU (Elfwing et al. 2017), also called Swish. Its backward needs x.
struct Silu {
  template <class S>
  HD S operator()(S x) const {
    return x * sigmoid(x);
  }
};
struct SiluBackward {
  template <class S>
  HD S operator()(S dy, S x) const {
    const S s = sigmoid(x);
    return dy * (s * (S(1) + x * (S(1) - s)));
  }
  template <class S>
  HD S operator()(S dy, S x, S dx) const {
    return dx + (*this)(dy, x);
  }
};

// log(1 + exp(beta x)) / beta, without overflow: relu smoothed, the more so the smaller beta is.
struct Softplus {
  double beta;
  template <class S>
  HD S operator()(S x) const {
    const S z = S(beta) * x;
    const S e = exp_below_zero(z < S(0) ? z : S(0) - z);
    return maximum(x, S(0)) + S(1 / beta) * log_of_positive(S(1) + e);
  }
};
struct SoftplusBackward {
  double beta;
  template <class S>
  HD S operator()(S dy, S x) const {
    return dy * sigmoid(S(beta) * x);
  }
  template <class S>
  HD S operator()(S dy, S x, S dx) const {
    return dx + (*this)(dy, x);
  }
};

struct Add {
  template <class S>
  HD S operator()(S a, S b) const {
    return a + b;
  }
};

// relu?(x + bias)
struct AddBias {
  bool rectify;
  template <class S>
  HD S operator()(S x, S bias) const {
    const S z = x + bias;
    return rectify && !(z > S(0)) ? S(0) : z;
  }
};

struct Copy {
  template <class S>
  HD S operator()(S x) const {
    return x;
  }
};

// dx of y = mask ? scale x + shift : 0, without and with what dx already holds
struct MaskScaleBackward {
  template <class S>
  HD S operator()(S dy, S mask, S scale) const {
    return mask != S(0) ? dy * scale : S(0);
  }
  template <class S>
  HD S operator()(S dy, S mask, S dx, S scale) const {
    return mask != S(0) ? dx + dy * scale : dx;
  }
};

struct MaskBackward {
  template <class S>
  HD S operator()(S dy, S mask) const {
    return mask != S(0) ? dy : S(0);
  }
  template <class S>
  HD S operator()(S dy, S mask, S dx) const {
    return mask != S(0) ? dx + dy : dx;
  }
};

struct ScaleBackward {
  template <class S>
  HD S operator()(S dy, S scale) const {
    return dy * scale;
  }
  template <class S>
  HD S operator()(S dy, S dx, S scale) const {
    return dx + dy * scale;
  }
};

// y = scale x + shift; scale, shift: C values each.
void scale_shift(Exec& exec, View y, View x, View scale, View shift);
void scale_backward(Exec& exec, View dx, View dy, View scale, float beta);

// y = relu(scale x + shift); mask (kBit) keeps where it is positive, all that the backward needs.
void scale_shift_relu(Exec& exec, View y, View mask, View x, View scale, View shift);
void scale_shift_relu(Exec& exec, View y, View x, View scale, View shift);  // nothing kept
// y = relu(scale x + shift + residual); mask as above, or without data.
void scale_shift_add_relu(Exec& exec, View y, View mask, View x, View residual, View scale,
                          View shift);

// The gradient's way back through y = relu?(scale x + shift) under constants: the parts that are
// there.
struct GradientGate {
  View mask;   // kBit, 0 where the gradient ends; without data: nowhere
  View scale;  // C values; without data: 1
  explicit operator bool() const { return mask.data != nullptr || scale.data != nullptr; }
};
// dx = scale mask dy + beta dx; dy may be dx. REQUIRES: a part.
void gate_backward(Exec& exec, View dx, View dy, const GradientGate& gate, float beta);

// y = relu(x), mask as above.
void relu(Exec& exec, View y, View mask, View x);
// The mask of a y that a convolution's epilogue has already rectified.
void relu_mask(Exec& exec, View mask, View y);

// y = x where it is positive, else slope x; mask as above. The backward: dx = dy or slope dy, +
// beta dx.
void leaky_relu(Exec& exec, View y, View mask, View x, double slope);
void leaky_relu_backward(Exec& exec, View dx, View dy, View mask, double slope, float beta);

// y = silu(x) and y = softplus(x); the backwards take x: dx = y'(x) dy + beta dx. sharpness: the
// softplus's beta, > 0.
void silu(Exec& exec, View y, View x);
void silu_backward(Exec& exec, View dx, View dy, View x, float beta);
void softplus(Exec& exec, View y, View x, double sharpness);
void softplus_backward(Exec& exec, View dx, View dy, View x, double sharpness, float beta);

// y = relu?(y + bias), bias: C values: for a product whose library has no such epilogue.
void add_bias(Exec& exec, View y, View bias, bool rectify);

// db = beta db + sum of dy over samples and pixels; db: C values.
void bias_gradient(Exec& exec, View db, View dy, float beta);

// total = part + beta total, for gradients whose kernel can only overwrite.
void accumulate(Exec& exec, View total, View part, float beta);

void add(Exec& exec, View y, View a, View b);
// Same elements, other dtype.
void convert(Exec& exec, View y, View x);
// The same pixels with more or fewer channels: to = from + beta to in the channels that both have,
// 0 in those that `from` lacks. Channels last.
void copy_channels(Exec& exec, View to, View from, float beta);
// Same elements and dtype, other layout.
void reorder(Exec& exec, View y, View x);

}  // namespace ringfort
