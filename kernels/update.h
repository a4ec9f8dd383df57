// Optimizer updates over flat buffers: one pass reads gradient, weight and momentum and writes
// weight, momentum and, where the engine computes in another dtype, the compute copy.
#pragma once

#include "kernels/exec.h"
#include "kernels/slots.h"

namespace ringfort {

// SGD as PyTorch defines it: g <- grad + weight_decay w;  m <- momentum m + g;  w <- w - lr
// (nesterov ? g + momentum m : m). decays: 0 where a weight does not decay.
struct SgdUpdate {
  float lr, momentum, weight_decay;
  bool nesterov;
  const float* lr_at = nullptr;  // on the device: replaces lr, for updates that are recorded

  HD SgdUpdate resolve() const {
    SgdUpdate now = *this;
    if (lr_at != nullptr) now.lr = *lr_at;
    return now;
  }
  template <class S>
  HD Results<S, 2> operator()(S w, S m, S grad, S decays = S(1)) const {
    const S g = grad + decays * S(weight_decay) * w;
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

}  // namespace ringfort
