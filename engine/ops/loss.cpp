// Losses: not nodes of the tape but where backward starts.
#include "kernels/loss.h"

#include "engine/ops/ops.h"

namespace ringfort {

namespace {

Tensor gradient_of(Pass& p, const Var& logits) {
  return p.empty(logits.value.shape(), logits.gradient_dtype());
}

}  // namespace

Loss cross_entropy(Pass& p, const Var& logits, const Tensor& labels, double weight,
                   double smoothing, const Mixture& mixture) {
  const int64_t n = logits.value.shape().n;
  Loss result{
      p.empty(vector_shape(n), logits.value.dtype()), p.empty(vector_shape(n), Dtype::kInt32), {}};
  if (logits.needs_gradient()) result.dlogits = gradient_of(p, logits);
  const View dlogits = result.dlogits ? result.dlogits.view() : View{};
  cross_entropy(p.exec, result.loss, dlogits, result.prediction, logits.value, labels, weight,
                smoothing, mixture.views());
  return result;
}

TradesLoss trades_loss(Pass& p, const Var& logits, const Var& logits_adv, const Tensor& labels,
                       const TradesWeights& weights, const Mixture& mixture) {
  const int64_t n = logits.value.shape().n;
  TradesLoss result{p.empty(vector_shape(n), logits.value.dtype()),
                    p.empty(vector_shape(n), Dtype::kInt32),
                    {},
                    {}};
  if (logits.needs_gradient()) result.dlogits = gradient_of(p, logits);
  if (logits_adv.needs_gradient()) result.dlogits_adv = gradient_of(p, logits_adv);
  const auto view = [](const Tensor& tensor) { return tensor ? tensor.view() : View{}; };
  trades_loss(p.exec, result.loss, view(result.dlogits), view(result.dlogits_adv),
              result.prediction, logits.value, logits_adv.value, labels, weights, mixture.views());
  return result;
}

}  // namespace ringfort
