// Training methods as compositions: inner attack + outer loss (+ controller, in the trainer). A
// paper's method is a named preset; a new idea is a new part.
//
//   standard   no attack                                      cross-entropy
//   pgd-at     PGD (Madry et al. 2018), with eval-mode batch norm and steps of 2.5 eps / K as in
//              MadryLab/robustness and the random start of the paper; cross-entropy on x_adv only
//   fast-at    FGSM-RS, train-mode, tracking (Wong et al. 2020)   cross-entropy on x_adv only
//   trades     PGD on KL(p || q), eval-mode (Zhang et al. 2019)   CE + beta KL, both on the batch
//   dat        PGD, eval-mode, steps of 2/255 where those can cross the ball (Zhang et al. 2022)
//                                                             CE on x_adv + lambda CE on x_nat
//   dat-fgsm   as fast-at                                     the same; its code has lambda 0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "adversarial/attack.h"
#include "adversarial/outer_loss.h"
#include "adversarial/recipe.h"

namespace ringfort {

struct TrainingMethod {
  std::optional<AttackOptions> inner = {};  // none: train on the images themselves
  OuterLoss outer = {};
  double weight_perturbation = 0;  // gamma of AWP; 0: none
};

// The recipe's method with its source's defaults where the recipe leaves a choice open.
// Errors: an unknown method, norm, dtype or batch-norm mode lists the known ones.
TrainingMethod make_method(const Recipe& recipe);

// The recipe with every "default" and 0 that means a default replaced by what it stands for: what a
// run folder records.
Recipe resolved(Recipe recipe);

// The attack that measures held-out robustness during training: PGD with alpha 2.5 eps / steps,
// eval mode.
AttackOptions validation_attack(const Recipe& recipe, int steps);

// How many of `images` that go through the network together are pseudo-labelled ones.
int64_t pseudo_images(const Recipe& recipe, int64_t images);

Norm parse_norm(const std::string& name);
Dtype parse_dtype(const std::string& name);
AttackBn parse_attack_bn(const std::string& name);
Dtype attack_dtype(const Recipe& recipe);

}  // namespace ringfort
