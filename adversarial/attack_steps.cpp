#include "adversarial/attack_steps.h"

#include "kernels/attack.h"
#include "kernels/device_memory.h"
#include "kernels/loss.h"

namespace ringfort {

PassOptions attack_pass(const AttackOptions& options) {
  PassOptions pass;
  pass.wrt = Wrt::kInput;
  pass.bn = options.bn == AttackBn::kEval    ? BnMode::kRunning
            : options.bn == AttackBn::kTrain ? BnMode::kBatch
                                             : BnMode::kBatchAndUpdate;
  pass.norms = options.norms;
  pass.dtype = options.dtype;
  return pass;
}

static LinfProjection projection(const ThreatModel& threat) {
  return {static_cast<float>(threat.eps), threat.lower, threat.upper};
}

RandomKey attack_key(const AttackOptions& options, uint32_t stream) {
  return {options.seed, Purpose::kAttackStart, stream};
}

void take_start(Exec& exec, const AttackOptions& options, AttackStart start, View x_adv, View x_nat,
                const RandomKey& key, const int64_t* samples) {
  const ThreatModel& threat = options.threat;
  if (start == AttackStart::kNatural)
    copy_view(exec, x_adv, x_nat);
  else if (start == AttackStart::kNearby)
    nearby_start(exec, x_adv, x_nat, projection(threat), key, samples);
  else if (threat.norm == Norm::kLinf)
    linf_start(exec, x_adv, x_nat, projection(threat), key, samples);
  else
    l2_start(exec, x_adv, x_nat, static_cast<float>(threat.eps), threat.lower, threat.upper, key,
             samples);
}

void take_step(Exec& exec, const AttackOptions& options, View x_adv, View grad, View x_nat) {
  const ThreatModel& threat = options.threat;
  if (threat.norm == Norm::kLinf)
    linf_step(exec, x_adv, grad, x_nat, {static_cast<float>(options.alpha), projection(threat)});
  else
    l2_step(exec, x_adv, grad, x_nat, static_cast<float>(options.alpha),
            static_cast<float>(threat.eps), threat.lower, threat.upper);
}

Tensor natural_logits(Exec& exec, Pool& pool, Model& model, const AttackOptions& options,
                      const Tensor& x_nat) {
  PassOptions pass = attack_pass(options);
  pass.norms = Norms::kMain;
  pass.wrt = Wrt::kNothing;
  Pass p(exec, pool, model.params(), pass);
  return model.forward(p, p.input(x_nat)).value;
}

InputGradient input_gradient(Exec& exec, Pool& pool, Model& model, const AttackOptions& options,
                             const Tensor& x_adv, const AttackReference& reference, Wrt wrt) {
  PassOptions pass = attack_pass(options);
  pass.wrt = wrt;
  Pass p(exec, pool, model.params(), pass);
  const Var x = p.input(x_adv);
  const Var logits = model.forward(p, x);
  Loss loss = attack_objective(p, options.objective, logits, reference);
  if (wrt == Wrt::kNothing)
    return {{}, std::move(loss.loss), std::move(loss.prediction), p.gradients_written()};
  p.backward(logits, std::move(loss.dlogits));
  return {p.tape.gradient(x), std::move(loss.loss), std::move(loss.prediction),
          p.gradients_written()};
}

Loss attack_objective(Pass& p, AttackObjective objective, const Var& logits,
                      const AttackReference& reference) {
  switch (objective) {
    case AttackObjective::kCrossEntropy:
      return cross_entropy(p, logits, reference.labels, 1.0, 0, reference.mixture);
    case AttackObjective::kDivergence: {
      TradesLoss loss = trades_loss(p, {reference.natural_logits}, logits, reference.labels,
                                    {.weight = 1, .natural = 0, .beta = 1});
      return {std::move(loss.loss), std::move(loss.prediction), std::move(loss.dlogits_adv)};
    }
  }
  fail("attack objective {} is not known", static_cast<int>(objective));
}

Mixture empty_mixture(Pool& pool, int64_t count) {
  return {Tensor(pool, vector_shape(count), Dtype::kInt32),
          Tensor(pool, vector_shape(count), Dtype::kFloat32)};
}

void copy_mixture(Exec& exec, const Mixture& to, const Mixture& from) {
  if (!from.labels) return;
  copy_view(exec, to.labels, from.labels);
  copy_view(exec, to.share, from.share);
}

void require_valid(const AttackOptions& options, const AttackInput& input) {
  require(options.steps >= 1 && options.restarts >= 1,
          "attack: needs at least 1 step and 1 restart, got {} and {}", options.steps,
          options.restarts);
  require(options.threat.eps >= 0 && options.alpha >= 0,
          "attack: eps and alpha must not be negative, got {} and {}", options.threat.eps,
          options.alpha);
  require(options.start != AttackStart::kNearby || options.threat.norm == Norm::kLinf,
          "attack: a nearby start is for Linf; take a random one in L2");
  const int64_t n = input.x_nat.shape().n;
  require(n >= 1, "attack: the batch is empty");
  require(input.x_nat.dtype() == Dtype::kFloat32 && input.labels.dtype() == Dtype::kInt32 &&
              input.labels.view().count() == n && input.samples.dtype() == Dtype::kInt64 &&
              input.samples.view().count() == n,
          "attack: {} float32 images need {} int32 labels and sample numbers, got {} and {}", n, n,
          input.labels.view().count(), input.samples.view().count());
}

}  // namespace ringfort
