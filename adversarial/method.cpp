#include "adversarial/method.h"

#include <algorithm>
#include <cmath>

#include "adversarial/optimization.h"

namespace ringfort {
namespace {

bool by_dat(const Recipe& recipe) { return recipe.method == "dat" || recipe.method == "dat-fgsm"; }

ThreatModel threat_model(const Recipe& recipe) {
  ThreatModel threat;
  threat.norm = parse_norm(recipe.norm);
  threat.eps = recipe.eps;
  return threat;
}

// DAT's code has one step size for all radii, 2/255: with its 10 steps to 8/255 and its 4 steps to
// 2/255. Where so many of those do not cross the ball they are as large as there, 2.5 eps / steps.
double dat_alpha(const ThreatModel& threat, int steps) {
  const double crossing = 2.5 * threat.eps / steps;
  return threat.norm == Norm::kLinf ? std::max(2.0 / 255, crossing) : crossing;
}

// The method's attack as its source has it.
AttackOptions attack_of_source(const Recipe& recipe, const ThreatModel& threat) {
  if (recipe.method == "fast-at" || recipe.method == "dat-fgsm") {
    AttackOptions attack = fgsm_rs(threat);
    if (recipe.attack_steps > 0) attack.steps = recipe.attack_steps;
    return attack;
  }
  const int steps = recipe.attack_steps > 0 ? recipe.attack_steps : 10;
  if (recipe.method == "pgd-at") return pgd(threat, steps, 2.5 * threat.eps / steps);
  if (recipe.method == "dat") return pgd(threat, steps, dat_alpha(threat, steps));
  // The source's alpha of 0.007 is 2.26 eps / K at its eps of 0.031 and K of 10.
  if (recipe.method == "trades") return trades(threat, steps, 0.07 / 0.031 * threat.eps / steps);
  fail(
      "there is no training method '{}'; known are standard, pgd-at, fast-at, trades, dat, "
      "dat-fgsm",
      recipe.method);
}

std::optional<AttackOptions> inner_attack(const Recipe& recipe) {
  if (recipe.method == "standard") return std::nullopt;
  AttackOptions attack = attack_of_source(recipe, threat_model(recipe));
  if (recipe.attack_alpha > 0) attack.alpha = recipe.attack_alpha;
  if (recipe.attack_bn != "default") attack.bn = parse_attack_bn(recipe.attack_bn);
  attack.norms = attacked_norms(recipe.auxiliary_norms);
  attack.dtype = attack_dtype(recipe);
  attack.seed = recipe.seed;
  return attack;
}

}  // namespace

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
  method.inner = inner_attack(recipe);
  if (recipe.method == "trades") {
    method.outer.kind = OuterLossKind::kTrades;
    method.outer.beta = recipe.beta;
  } else if (by_dat(recipe)) {
    const double of_source = recipe.method == "dat" ? 1 : 0;
    method.outer.natural_weight = recipe.natural_weight < 0 ? of_source : recipe.natural_weight;
  }
  require(!recipe.auxiliary_norms || method.outer.natural(),
          "auxiliary-norms: {} trains on one kind of images only, and one set of norms serves it; "
          "leave the option out, or take --method trades or dat",
          recipe.method);
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
  if (by_dat(recipe)) recipe.natural_weight = method.outer.natural_weight;
  if (!method.inner) return recipe;
  recipe.attack_steps = method.inner->steps;
  recipe.attack_alpha = method.inner->alpha;
  recipe.attack_bn = to_string(method.inner->bn);
  return recipe;
}

int64_t pseudo_images(const Recipe& recipe, int64_t images) {
  return std::llround(recipe.pseudo_share * static_cast<double>(images));
}

AttackOptions validation_attack(const Recipe& recipe, int steps) {
  const ThreatModel threat = threat_model(recipe);
  AttackOptions attack = pgd(threat, steps, 2.5 * threat.eps / steps);
  attack.stop = StopRule::kOnSuccess;
  attack.norms = attacked_norms(recipe.auxiliary_norms);
  attack.seed = recipe.seed;
  // As in training; what it finds is confirmed in float32.
  attack.dtype = attack_dtype(recipe);
  return attack;
}

}  // namespace ringfort
