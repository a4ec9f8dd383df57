// Adversarial weight perturbation (AWP; Wu, Xia and Wang, NeurIPS 2020): the weights, too, move
// against the training, within a share gamma of each filter's and matrix's norm, before the
// gradient is taken that moves them. Composes with any outer loss and any optimizer:
//
//   gradient at w -> perturb() -> gradient at w + v -> Optimizer::step(..., weights())
//
// Nothing is subtracted again: the update starts from the weights as they were, bit for bit, while
// momentum and weight decay see w + v, as in the source.
#pragma once

#include "engine/params.h"

namespace ringfort {

class WeightPerturbation {
 public:
  // gamma: 0.01 for PGD-AT, 0.005 for TRADES in the source. Norm parameters and biases are left as
  // they are.
  WeightPerturbation(ParamStore& params, double gamma);

  // Moves the master weights and the compute copy by v along the flat gradient.
  void perturb(Exec& exec);
  // The weights as they were before perturb().
  View weights() const { return kept_; }

  int64_t bytes_reserved() const { return pool_.bytes_reserved(); }

 private:
  ParamStore& params_;
  double gamma_;
  Pool pool_;
  Tensor kept_;
  Tensor perturbed_, w_squares_, g_squares_, factor_;  // per segment, float64
};

}  // namespace ringfort
