// Outer losses: what the training pass minimises over the weights, at the images that the inner
// attack has found.
#pragma once

#include "models/model.h"

namespace ringfort {

enum class OuterLossKind {
  kCrossEntropy,  // on the attacked images only (Madry et al. 2018)
  // CE of the images themselves + beta KL(p || q), p and q the probabilities of the image and of
  // its attacked twin, with gradients to both (Zhang et al. 2019)
  kTrades,
};

struct OuterLoss {
  OuterLossKind kind = OuterLossKind::kCrossEntropy;
  double beta = 6;             // TRADES
  double label_smoothing = 0;  // of the cross-entropy
  Norms norms = Norms::kMain;  // that x_adv goes through; x_nat always goes through the main ones
};

// Images of one pass, on the device.
struct OuterBatch {
  Tensor x_nat;   // TRADES only
  Tensor x_adv;   // (N, H, W, C) float32
  Tensor labels;  // (N) int32
  Mixture mixture = {};
};

struct OuterResult {
  Tensor loss;        // (N), unweighted
  Tensor prediction;  // (N) int32, of x_adv
};

// Writes the gradient of the loss with respect to the parameters, or adds it where
// options.accumulate says so. images: that the mean is over, at least N. TRADES goes through the
// network with x_nat first, then with x_adv: two batches to its norms.
OuterResult outer_gradient(Exec& exec, Pool& pool, Model& model, const OuterLoss& outer,
                           const OuterBatch& batch, PassOptions options, int64_t images);

}  // namespace ringfort
