// Adversarial weight perturbation (Wu, Xia and Wang 2020) on flat buffers: each filter and matrix
// moves along the gradient of the loss by a share of its own norm.
#pragma once

#include <cmath>

#include "kernels/exec.h"
#include "kernels/segments.h"
#include "kernels/slots.h"

namespace ringfort {

// v = gamma |w| / (|g| + 1e-20) g, the norms over a segment; the factor of g, 0 where a segment is
// not perturbed.
struct PerturbationFactor {
  double gamma = 0.01;
  template <class S>
  HD S operator()(S w_squares, S g_squares, S perturbed) const {
    using std::sqrt;
    return perturbed * S(gamma) * sqrt(w_squares) / (sqrt(g_squares) + S(1e-20));
  }
};

// w <- w + v; kept <- w as it was; in one launch after that of the norms. copy: the perturbed
// weights in another dtype, or a view without data. Per segment, float64: perturbed: 0 or 1, read;
// w_squares, g_squares, factor: written.
struct PerturbationNorms {
  View perturbed, w_squares, g_squares, factor;
};
void perturb_weights(Exec& exec, View w, View kept, View copy, View gradient,
                     const SegmentTable& table, const PerturbationNorms& norms, double gamma);

}  // namespace ringfort
