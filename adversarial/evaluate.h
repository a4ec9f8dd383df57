// Evaluation of a trained model under attack, on the first n images of a test set.
#pragma once

#include <functional>

#include "adversarial/attack.h"
#include "adversarial/evaluation.h"
#include "engine/data/dataset.h"

namespace ringfort {

struct EvaluateOptions {
  std::string attack_name = "pgd";
  AttackOptions attack;
  // An attack of the caller's own in the place of attack(): x_adv (N, H, W, C), inside
  // attack.threat. `attack_name` and the rest of `attack` say what it is in the result.
  std::function<Tensor(const AttackInput& input)> own_attack;
  int64_t n = 1000;  // 0 or more than there are: all
  int64_t batch_size = 128;
  int examples = 12;  // images kept for the report
  std::function<void(int64_t done, int64_t total)> progress;
  std::function<void(const std::string& sentence)> message;  // of images that are broken
};

// "main" or "auxiliary", of a model with two sets of batch norms; of any other nothing.
std::string norms_in_words(const Model& model, Norms norms);

// How many images these options attack.
int64_t sample_count(const EvaluateOptions& options, const Dataset& test);

// Clean accuracy, and robust accuracy: the share of samples that are right on x_nat and on every
// x_adv found. What the attack says of its own success does not count: judge() does.
Evaluation evaluate(Exec& exec, Pool& pool, Model& model, const Dataset& test,
                    const EvaluateOptions& options);

// Fills in the predictions, flags, accuracies and examples of `evaluation`, which holds n and the
// labels: from clean forward passes in float32 on images (n, H, W, C) and their adversarial
// versions, wherever those come from. Errors: an x_adv outside the threat model; logits that are
// not finite.
void judge(Exec& exec, Pool& pool, Model& model, const Tensor& x_nat, const Tensor& x_adv,
           const EvaluateOptions& options, Evaluation& evaluation);

// Both on the host. Throws unless every x_adv is finite, in the box and in the eps ball (to 1e-6
// relative plus 1e-7).
void verify_threat_model(const ThreatModel& threat, const View& x_adv, const View& x_nat);

}  // namespace ringfort
