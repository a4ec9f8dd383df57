// Losses: not nodes of the tape but where backward starts.
#include "kernels/loss.h"

#include "engine/ops/ops.h"

namespace ringfort {

Loss cross_entropy(Pass& p, const Var& logits, const Tensor& labels, double weight) {
  const int64_t n = logits.value.shape().n;
  Loss result{
      p.empty(vector_shape(n), logits.value.dtype()), p.empty(vector_shape(n), Dtype::kInt32), {}};
  if (logits.needs_gradient()) result.dlogits = p.empty_like(logits.value);
  const View dlogits = result.dlogits ? result.dlogits.view() : View{};
  cross_entropy(p.exec, result.loss, dlogits, result.prediction, logits.value, labels, weight);
  return result;
}

}  // namespace ringfort
