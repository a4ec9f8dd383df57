// Outer losses: what the training pass minimises over the weights, at the images that the inner
// attack has found.
#pragma once

#include "models/model.h"

namespace ringfort {

enum class OuterLossKind {
  // of the attacked images (Madry et al. 2018), plus natural_weight times that of the images
  // themselves (DAT: Zhang et al. 2022)
  kCrossEntropy,
  // CE of the images themselves + beta KL(p || q), p and q the probabilities of the image and of
  // its attacked twin, with gradients to both (Zhang et al. 2019)
  kTrades,
};

struct OuterLoss {
  OuterLossKind kind = OuterLossKind::kCrossEntropy;
  double beta = 6;             // TRADES
  double natural_weight = 0;   // cross-entropy: DAT's lambda
  double label_smoothing = 0;  // of the cross-entropy
  Norms norms = Norms::kMain;  // that x_adv goes through; x_nat always goes through the main ones

  // Whether it looks at the images themselves, too.
  bool natural() const { return kind == OuterLossKind::kTrades || natural_weight > 0; }
};

// Images of one pass, on the device.
struct OuterBatch {
  Tensor x_nat;   // where the loss looks at it
  Tensor x_adv;   // (N, H, W, C) float32
  Tensor labels;  // (N) int32
  Mixture mixture = {};
};

struct OuterResult {
  Tensor loss;        // (N), unweighted
  Tensor prediction;  // (N) int32, of x_adv
};

// Images with the norms that they go through.
struct SeenImages {
  Tensor images;
  Norms norms = Norms::kMain;
};

// What goes through the network for one gradient, in this order, each a batch of its own to the
// norms: x_adv; for TRADES x_nat before it; with a natural_weight x_nat after it, as in DAT's code.
std::vector<SeenImages> seen_images(const OuterLoss& outer, const OuterBatch& batch);

// Writes the gradient of the loss with respect to the parameters, or adds it where
// options.accumulate says so. images: that the mean is over, at least N. With a natural_weight the
// pass of x_adv is over, and its memory free, before that of x_nat begins; TRADES has both at once.
// on_ready: as Pass::OnReady, when all passes have added what they have to a parameter's gradient.
OuterResult outer_gradient(Exec& exec, Pool& pool, Model& model, const OuterLoss& outer,
                           const OuterBatch& batch, PassOptions options, int64_t images,
                           const Pass::OnReady& on_ready = {});

}  // namespace ringfort
