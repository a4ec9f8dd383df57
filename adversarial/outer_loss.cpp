#include "adversarial/outer_loss.h"

#include <utility>

#include "kernels/loss.h"

namespace ringfort {
namespace {

OuterResult cross_entropy_gradient(Exec& exec, Pool& pool, Model& model, const OuterLoss& outer,
                                   const OuterBatch& batch, PassOptions options, double weight) {
  options.norms = outer.norms;
  Pass p(exec, pool, model.params(), options);
  const Var logits = model.forward(p, p.input(batch.x_adv));
  Loss loss = cross_entropy(p, logits, batch.labels, weight, outer.label_smoothing, batch.mixture);
  p.backward(logits, std::move(loss.dlogits));
  return {std::move(loss.loss), std::move(loss.prediction)};
}

OuterResult trades_gradient(Exec& exec, Pool& pool, Model& model, const OuterLoss& outer,
                            const OuterBatch& batch, PassOptions options, double weight) {
  options.norms = Norms::kMain;
  Pass natural(exec, pool, model.params(), options);
  options.norms = outer.norms;
  options.accumulate = true;
  Pass adversarial(exec, pool, model.params(), options);
  const Var logits = model.forward(natural, natural.input(batch.x_nat));
  const Var logits_adv = model.forward(adversarial, adversarial.input(batch.x_adv));
  TradesLoss loss = trades_loss(
      natural, logits, logits_adv, batch.labels,
      {.weight = weight, .natural = 1, .beta = outer.beta, .smoothing = outer.label_smoothing},
      batch.mixture);
  natural.backward(logits, std::move(loss.dlogits));
  adversarial.backward(logits_adv, std::move(loss.dlogits_adv));
  return {std::move(loss.loss), std::move(loss.prediction)};
}

}  // namespace

OuterResult outer_gradient(Exec& exec, Pool& pool, Model& model, const OuterLoss& outer,
                           const OuterBatch& batch, PassOptions options, int64_t images) {
  options.wrt = Wrt::kParams;
  const double weight = 1.0 / static_cast<double>(images);
  switch (outer.kind) {
    case OuterLossKind::kCrossEntropy:
      return cross_entropy_gradient(exec, pool, model, outer, batch, options, weight);
    case OuterLossKind::kTrades:
      return trades_gradient(exec, pool, model, outer, batch, options, weight);
  }
  fail("outer loss {} is not known", static_cast<int>(outer.kind));
}

}  // namespace ringfort
