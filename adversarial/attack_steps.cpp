#include "adversarial/attack_steps.h"

#include <cstring>

#include "kernels/attack.h"

namespace ringfort {

PassOptions attack_pass(const AttackOptions& options) {
  PassOptions pass;
  pass.wrt = Wrt::kInput;
  pass.bn = options.bn == AttackBn::kEval    ? BnMode::kRunning
            : options.bn == AttackBn::kTrain ? BnMode::kBatch
                                             : BnMode::kBatchAndUpdate;
  pass.dtype = options.dtype;
  return pass;
}

static LinfProjection projection(const ThreatModel& threat) {
  return {static_cast<float>(threat.eps), threat.lower, threat.upper};
}

void take_start(Exec& exec, const AttackOptions& options, View x_adv, View x_nat, uint32_t round,
                const int64_t* samples) {
  const RandomKey key{options.seed, Purpose::kAttackStart, round};
  const ThreatModel& threat = options.threat;
  if (options.start == AttackStart::kNatural && round == 0)
    std::memcpy(x_adv.data, x_nat.data, static_cast<size_t>(x_nat.bytes()));
  else if (threat.norm == Norm::kLinf)
    linf_start(exec, x_adv, x_nat, projection(threat), key, samples);
  else
    l2_start(exec, x_adv, x_nat, static_cast<float>(threat.eps), threat.lower, threat.upper, key, samples);
}

void take_step(Exec& exec, const AttackOptions& options, View x_adv, View grad, View x_nat) {
  const ThreatModel& threat = options.threat;
  if (threat.norm == Norm::kLinf)
    linf_step(exec, x_adv, grad, x_nat, {static_cast<float>(options.alpha), projection(threat)});
  else
    l2_step(exec, x_adv, grad, x_nat, static_cast<float>(options.alpha),
            static_cast<float>(threat.eps), threat.lower, threat.upper);
}

InputGradient input_gradient(Exec& exec, Pool& pool, Model& model, const AttackOptions& options,
                             const Tensor& x_adv, const Tensor& labels) {
  Pass p(exec, pool, model.params(), attack_pass(options));
  const Var x = p.input(x_adv);
  const Var logits = model.forward(p, x);
  Loss loss = cross_entropy(p, logits, labels, 1.0);
  p.backward(logits, std::move(loss.dlogits));
  return {p.tape.gradient(x), std::move(loss.loss), std::move(loss.prediction),
          p.gradients_written()};
}

void require_valid(const AttackOptions& options, const Shape& shape) {
  require(options.steps >= 1 && options.restarts >= 1,
          "attack: needs at least 1 step and 1 restart, got {} and {}", options.steps,
          options.restarts);
  require(options.threat.eps >= 0 && options.alpha >= 0,
          "attack: eps and alpha must not be negative, got {} and {}", options.threat.eps,
          options.alpha);
  require(shape.n >= 1, "attack: the batch is empty");
}

}  // namespace ringfort
