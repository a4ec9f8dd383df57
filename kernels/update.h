// Optimizer updates over flat buffers: one pass reads gradient, weight and momentum and writes
// weight, momentum and, where the engine computes in another dtype, the compute copy.
#pragma once

#include "kernels/exec.h"
#include "kernels/segments.h"

namespace ringfort {

// SGD as PyTorch defines it: g <- grad + weight_decay w;  m <- momentum m + g;  w <- w - lr
// (nesterov ? g + momentum m : m). decays: 0 where a weight does not decay. The gradient may be
// scaled first, for clipping.
struct SgdUpdate {
  float lr, momentum, weight_decay;
  bool nesterov;
  // Numbers on the device, for updates that are recorded: in place of lr; a factor of the gradient.
  const float* lr_at = nullptr;
  const float* gradient_scale_at = nullptr;
  float gradient_scale = 1;

  HD SgdUpdate resolve() const {
    SgdUpdate now = *this;
    if (lr_at != nullptr) now.lr = *lr_at;
    if (gradient_scale_at != nullptr) now.gradient_scale = *gradient_scale_at;
    return now;
  }
  template <class S>
  HD Results<S, 2> operator()(S w, S m, S grad, S decays = S(1)) const {
    const S g = S(gradient_scale) * grad + decays * S(weight_decay) * w;
    const S next = S(momentum) * m + g;
    return {{w - S(lr) * (nesterov ? g + S(momentum) * next : next), next}};
  }
};

struct SgdUpdateWithCopy {
  SgdUpdate update;
  HD SgdUpdateWithCopy resolve() const { return {update.resolve()}; }
  template <class S>
  HD Results<S, 3> operator()(S w, S m, S grad, S decays = S(1)) const {
    const Results<S, 2> next = update(w, m, grad, decays);
    return {{next.value[0], next.value[1], next.value[0]}};
  }
};

// In one launch: w, m, grad: the flat buffers; copy: the compute copy, or a view without data;
// decays: kBit, or a view without data where all weights decay.
void sgd_update(Exec& exec, View w, View m, View grad, View copy, View decays,
                const SgdUpdate& update);

struct Square {
  template <class S>
  HD S operator()(S x) const {
    return x * x;
  }
};

// squares(s) = the sum of the squares of the segment's elements: float32 or float64.
void segment_squares(Exec& exec, View squares, View flat, const SegmentTable& table);

// scale = min(1, most / norm), float32, the norm over all segments: what makes a gradient no longer
// than `most` (Pascanu et al. 2013).
void clip_scale(Exec& exec, View scale, View squares, double most);

}  // namespace ringfort
