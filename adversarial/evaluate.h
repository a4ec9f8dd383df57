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
  int64_t n = 1000;  // 0 or more than there are: all
  int64_t batch_size = 128;
  int examples = 12;  // images kept for the report
  std::function<void(int64_t done, int64_t total)> progress;
};

// Clean accuracy, and robust accuracy: the share of samples that are right on x_nat and on every
// x_adv found, both counted from clean forward passes in float32 on the final images. Every x_adv
// is checked to lie in the threat model.
Evaluation evaluate(Exec& exec, Pool& pool, Model& model, const Dataset& test,
                    const EvaluateOptions& options);

// Both on the host. Throws unless every x_adv is finite, in the box and in the eps ball (to 1e-6
// relative plus 1e-7).
void verify_threat_model(const ThreatModel& threat, const View& x_adv, const View& x_nat);

}  // namespace ringfort
