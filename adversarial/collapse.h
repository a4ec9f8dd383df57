// The collapse probe's memory. Catastrophic overfitting (Wong et al. 2020): within a few hundred
// steps of single-step training, accuracy under PGD falls towards 0 while accuracy under the
// training attack rises.
#pragma once

#include <algorithm>
#include <optional>
#include <string>

#include "kernels/error.h"

namespace ringfort {

class CollapseDetector {
 public:
  // drop: how far below its best the probe's accuracy must fall, in (0, 1].
  explicit CollapseDetector(double drop) : drop_(drop) {}

  // Accuracies in [0, 1]: of the probe (PGD) and of training under its own attack. A sentence where
  // it collapsed.
  std::optional<std::string> observe(double probe, double training, int64_t step) {
    if (probe >= best_) {
      best_ = probe;
      training_at_best_ = training;
    }
    if (probe > best_ - drop_) return std::nullopt;
    const bool overfitting = training >= training_at_best_;
    return fmt::format(
        "{} at step {}: accuracy under PGD fell to {:.1f} % from {:.1f} %, while training went "
        "from {:.1f} % "
        "to {:.1f} % under its own attack; {}",
        overfitting ? "catastrophic overfitting" : "training diverges", step, 100 * probe,
        100 * best_, 100 * training_at_best_, 100 * training,
        overfitting ? "a smaller --attack-alpha, more --attack-steps or a shorter run avoid it"
                    : "a smaller --lr helps");
  }
  double best() const { return best_; }

 private:
  double drop_;
  double best_ = 0, training_at_best_ = 0;
};

}  // namespace ringfort
