// Optimizer updates over flat buffers: one pass reads gradient, weight and momentum and writes
// weight, momentum and, where the engine computes in another dtype, the compute copy.
#pragma once

#include "kernels/exec.h"
#include "kernels/slots.h"

namespace ringfort {

// SGD as PyTorch defines it: g <- grad + weight_decay w;  m <- momentum m + g;  w <- w - lr
// (nesterov ? g + momentum m : m)
struct SgdUpdate {
  float lr, momentum, weight_decay;
  bool nesterov;
  template <class S>
  HD Results<S, 2> operator()(S w, S m, S grad) const {
    const S g = grad + S(weight_decay) * w;
    const S next = S(momentum) * m + g;
    return {{w - S(lr) * (nesterov ? g + S(momentum) * next : next), next}};
  }
};

struct SgdUpdateWithCopy {
  SgdUpdate update;
  template <class S>
  HD Results<S, 3> operator()(S w, S m, S grad) const {
    const Results<S, 2> next = update(w, m, grad);
    return {{next.value[0], next.value[1], next.value[0]}};
  }
};

// w, m, grad: equal ranges of the flat buffers; copy: the same range of the compute copy, or a view
// without data.
void sgd_update(Exec& exec, View w, View m, View grad, View copy, const SgdUpdate& update);

}  // namespace ringfort
