#include "adversarial/outer_loss.h"

#include <utility>

#include "kernels/loss.h"

namespace ringfort {
namespace {

OuterResult cross_entropy_gradient(Exec& exec, Pool& pool, Model& model, const OuterLoss& outer,
                                   const OuterBatch& batch, PassOptions options, double weight,
                                   const Pass::OnReady& on_ready) {
  const auto one_pass = [&](const SeenImages& seen, double share, bool last) {
    options.norms = seen.norms;
    Pass p(exec, pool, model.params(), options, last ? on_ready : Pass::OnReady{});
    const Var logits = model.forward(p, p.input(seen.images));
    Loss loss = cross_entropy(p, logits, batch.labels, share * weight, outer.label_smoothing,
                              batch.mixture);
    p.backward(logits, std::move(loss.dlogits));
    return OuterResult{std::move(loss.loss), std::move(loss.prediction)};
  };
  const std::vector<SeenImages> seen = seen_images(outer, batch);
  OuterResult attacked = one_pass(seen.front(), 1, !outer.natural());
  if (!outer.natural()) return attacked;
  options.accumulate = true;
  const OuterResult natural = one_pass(seen.back(), outer.natural_weight, true);
  add_weighted(exec, attacked.loss, natural.loss, outer.natural_weight);
  return attacked;
}

OuterResult trades_gradient(Exec& exec, Pool& pool, Model& model, const OuterLoss& outer,
                            const OuterBatch& batch, PassOptions options, double weight,
                            const Pass::OnReady& on_ready) {
  options.norms = Norms::kMain;
  Pass natural(exec, pool, model.params(), options);
  options.norms = outer.norms;
  options.accumulate = true;
  Pass adversarial(exec, pool, model.params(), options, on_ready);
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

std::vector<SeenImages> seen_images(const OuterLoss& outer, const OuterBatch& batch) {
  const SeenImages natural{batch.x_nat, Norms::kMain}, attacked{batch.x_adv, outer.norms};
  if (outer.kind == OuterLossKind::kTrades) return {natural, attacked};
  return outer.natural() ? std::vector{attacked, natural} : std::vector{attacked};
}

OuterResult outer_gradient(Exec& exec, Pool& pool, Model& model, const OuterLoss& outer,
                           const OuterBatch& batch, PassOptions options, int64_t images,
                           const Pass::OnReady& on_ready) {
  options.wrt = Wrt::kParams;
  const double weight = 1.0 / static_cast<double>(images);
  switch (outer.kind) {
    case OuterLossKind::kCrossEntropy:
      return cross_entropy_gradient(exec, pool, model, outer, batch, options, weight, on_ready);
    case OuterLossKind::kTrades:
      return trades_gradient(exec, pool, model, outer, batch, options, weight, on_ready);
  }
  fail("outer loss {} is not known", static_cast<int>(outer.kind));
}

}  // namespace ringfort
