// The ops: differentiable pieces of a network. Each is its forward, then what it keeps, then its
// VJP, on one screen of its file. Vars are taken by value: move the last use in, so that an op may
// reuse the memory.
//
// Fused paths are chosen by name: conv_norm_relu under BnMode::kRunning runs one convolution with
// the norm folded into its filter and one bit kept per activation; relu?(scale x + shift) under
// constants is no node of the tape but a Gate, which the VJP behind it writes through.
#pragma once

#include "engine/pass.h"
#include "engine/weight_cache.h"
#include "kernels/conv2d.h"
#include "kernels/mixup.h"
#include "kernels/pool.h"

namespace ringfort {

struct TradesWeights;  // kernels/loss.h

struct ConvParams {
  ParamId weight = ParamId::kNone;  // (O, kH, kW, I)
  ParamId bias = ParamId::kNone;    // (O), or none
  ConvOptions options;
};

struct LinearParams {
  ParamId weight = ParamId::kNone;  // (out, 1, 1, in), or (out, H, W, C) after a flattening
  ParamId bias = ParamId::kNone;    // (out)
};

struct GroupNormParams {
  ParamId gamma = ParamId::kNone, beta = ParamId::kNone;  // (C)
  int64_t groups = 32;                                    // of C / groups channels
  double epsilon = 1e-5;
};

enum class Activation { kNone, kRelu };

// --- convolution and norm (conv.cpp, norm.cpp) ---

// x * w (+ residual): x (N, H, W, I) -> (N, H', W', O). No bias.
Var conv2d(Pass& p, Var x, const ConvParams& conv);
Var conv2d_add(Pass& p, Var x, const ConvParams& conv, Var residual);
// The sum x * w (+ residual) and relu(norm(sum)): what a pre-activation block hands to the next.
struct SumAndNormed {
  Var sum, normed;
};
SumAndNormed conv2d_with_norm_relu(Pass& p, Var x, const ConvParams& conv, const NormParams& norm);
SumAndNormed conv2d_add_norm_relu(Pass& p, Var x, const ConvParams& conv, Var residual,
                                  const NormParams& norm);
// relu?(x * w + bias)
Var conv2d_bias(Pass& p, Var x, const ConvParams& conv, Activation activation);
// relu?(norm(x))
Var batch_norm(Pass& p, Var x, const NormParams& norm, Activation activation);
// relu(norm(x) + residual): the end of a post-activation block (He et al. 2016a)
Var batch_norm_add_relu(Pass& p, Var x, const NormParams& norm, const Var& residual);
// norm(x * w): a projection on the way to a sum
Var conv_norm(Pass& p, Var x, const ConvParams& conv, const NormParams& norm);
// relu(norm(x * w))
Var conv_norm_relu(Pass& p, Var x, const ConvParams& conv, const NormParams& norm);
// relu(norm(x * w) + residual): the last convolution of a post-activation block with its end
Var conv_norm_add_relu(Pass& p, Var x, const ConvParams& conv, const NormParams& norm,
                       Var residual);

// --- group norm (group_norm.cpp): gamma xhat + beta, the same in every pass ---
Var group_norm(Pass& p, Var x, const GroupNormParams& norm);

// --- the rest (linear.cpp, pointwise.cpp, pooling.cpp, loss.cpp) ---

// x (N, in) -> activation(x w' + b) (N, out), of dtype `out`: logits are float32 whatever the pass
// computes in.
Var linear(Pass& p, Var x, const LinearParams& layer, Activation activation, Dtype out);
Var relu(Pass& p, Var x);
// x where it is positive, else slope x, 0 < slope < 1 (Madry et al. 2018 train with 0.1). Keeps one
// bit per element.
Var leaky_relu(Pass& p, Var x, double slope);
// x sigmoid(x), and log(1 + exp(sharpness x)) / sharpness: smooth, so their input is kept.
Var silu(Pass& p, Var x);
Var softplus(Pass& p, Var x, double sharpness = 1);
Var add(Pass& p, Var a, Var b);
// Inverted dropout where the pass has a draw for it, else x itself. layer: tells the dropouts of a
// network apart.
Var dropout(Pass& p, Var x, double rate, int layer);
// (pixels - mean) / std per channel, in the dtype of the pass: a model's first layer.
Var normalize(Pass& p, Var x, const Tensor& scale, const Tensor& shift);
// (N, H, W, C) -> (N, H W C) in channels-last order
Var flatten(Pass& p, Var x);
Var avg_pool(Pass& p, Var x, PoolWindow window);
Var max_pool(Pass& p, Var x, PoolWindow window);
Var global_avg_pool(Pass& p, Var x);

// Of a batch whose images are mixtures (kernels/mixup.h): the label of what each was mixed with,
// and its own share. Empty: they are not.
struct Mixture {
  Tensor labels, share;  // (N) int32, float32
  MixtureViews views() const { return labels ? MixtureViews{labels, share} : MixtureViews{}; }
};

// Cross-entropy per sample and its gradient, weight (softmax - target): weight 1 in attacks, 1/B in
// training.
struct Loss {
  Tensor loss;        // (N), dtype of the logits
  Tensor prediction;  // (N) int32
  Tensor dlogits;     // (N, K), only where the logits need a gradient
};
Loss cross_entropy(Pass& p, const Var& logits, const Tensor& labels, double weight,
                   double smoothing = 0, const Mixture& mixture = {});

// TRADES' loss (kernels/loss.h), whose two logits may come from two passes; p gives the memory.
struct TradesLoss {
  Tensor loss;                  // (N), dtype of the logits
  Tensor prediction;            // (N) int32, of logits_adv
  Tensor dlogits, dlogits_adv;  // (N, K), each only where its logits need a gradient
};
TradesLoss trades_loss(Pass& p, const Var& logits, const Var& logits_adv, const Tensor& labels,
                       const TradesWeights& weights, const Mixture& mixture = {});

// The layout in which a convolution's output of `channels` channels is kept: oneDNN's blocks where
// they exist.
Layout conv_layout(const Pass& p, int64_t channels);

}  // namespace ringfort
