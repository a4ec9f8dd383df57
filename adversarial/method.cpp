#include "adversarial/method.h"

#include "adversarial/optimization.h"

namespace ringfort {

Norm parse_norm(const std::string& name) {
  if (name == "Linf" || name == "linf" || name == "inf") return Norm::kLinf;
  if (name == "L2" || name == "l2" || name == "2") return Norm::kL2;
  fail("there is no norm '{}'; known are Linf, L2", name);
}

Dtype parse_dtype(const std::string& name) {
  if (name == "float32") return Dtype::kFloat32;
  if (name == "bfloat16") return Dtype::kBFloat16;
  fail("there is no dtype '{}' to compute in; known are float32, bfloat16", name);
}

AttackBn parse_attack_bn(const std::string& name) {
  for (const AttackBn bn : {AttackBn::kEval, AttackBn::kTrain, AttackBn::kTrainTrack})
    if (name == to_string(bn)) return bn;
  fail("there is no batch-norm mode '{}' for attacks; known are eval, train, train-track", name);
}

Dtype attack_dtype(const Recipe& recipe) {
  return parse_dtype(recipe.attack_dtype == "default" ? recipe.dtype : recipe.attack_dtype);
}

TrainingMethod make_method(const Recipe& recipe) {
  TrainingMethod method;
  method.outer.label_smoothing = recipe.label_smoothing;
  method.outer.norms = attacked_norms(recipe.auxiliary_norms);
  method.weight_perturbation = recipe.awp_gamma;
  require(!recipe.auxiliary_norms || recipe.method == "trades",
          "auxiliary-norms: {} trains on one kind of images only, and one set of norms serves it; "
          "leave the option out or take --method trades",
          recipe.method);
  if (recipe.method == "standard") return method;
  ThreatModel threat;
  threat.norm = parse_norm(recipe.norm);
  threat.eps = recipe.eps;

  AttackOptions attack;
  if (recipe.method == "fast-at") {
    attack = fgsm_rs(threat);
    if (recipe.attack_steps > 0) attack.steps = recipe.attack_steps;
  } else if (recipe.method == "pgd-at") {
    const int steps = recipe.attack_steps > 0 ? recipe.attack_steps : 10;
    attack = pgd(threat, steps, 2.5 * threat.eps / steps);
  } else if (recipe.method == "trades") {
    // The source's alpha of 0.007 is 2.26 eps / K at its eps of 0.031 and K of 10.
    const int steps = recipe.attack_steps > 0 ? recipe.attack_steps : 10;
    attack = trades(threat, steps, 0.07 / 0.031 * threat.eps / steps);
    method.outer.kind = OuterLossKind::kTrades;
    method.outer.beta = recipe.beta;
  } else {
    fail("there is no training method '{}'; known are standard, pgd-at, fast-at, trades",
         recipe.method);
  }
  if (recipe.attack_alpha > 0) attack.alpha = recipe.attack_alpha;
  if (recipe.attack_bn != "default") attack.bn = parse_attack_bn(recipe.attack_bn);
  attack.norms = attacked_norms(recipe.auxiliary_norms);
  attack.dtype = attack_dtype(recipe);
  attack.seed = recipe.seed;
  method.inner = attack;
  return method;
}

Recipe resolved(Recipe recipe) {
  for (const ModelEntry& entry : model_registry())
    if (entry.name == recipe.model && recipe.width == 0) recipe.width = entry.default_width;
  const TrainingMethod method = make_method(recipe);
  recipe.lr = peak_lr(recipe);
  recipe.lr_base_size = 0;
  recipe.lr_base_scale = Recipe().lr_base_scale;
  recipe.opt_eps = make_optimizer(recipe).eps;
  recipe.attack_dtype = to_string(attack_dtype(recipe));
  if (!method.inner) return recipe;
  recipe.attack_steps = method.inner->steps;
  recipe.attack_alpha = method.inner->alpha;
  recipe.attack_bn = to_string(method.inner->bn);
  return recipe;
}

AttackOptions validation_attack(const Recipe& recipe, int steps) {
  ThreatModel threat;
  threat.norm = parse_norm(recipe.norm);
  threat.eps = recipe.eps;
  AttackOptions attack = pgd(threat, steps, 2.5 * threat.eps / steps);
  attack.stop = StopRule::kOnSuccess;
  attack.norms = attacked_norms(recipe.auxiliary_norms);
  attack.seed = recipe.seed;
  // As in training; what it finds is confirmed in float32.
  attack.dtype = attack_dtype(recipe);
  return attack;
}

}  // namespace ringfort
