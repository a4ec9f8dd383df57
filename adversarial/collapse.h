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
    best_ = std::max(best_, probe);
    if (probe > best_ - drop_) return std::nullopt;
    return fmt::format(
        "catastrophic overfitting at step {}: accuracy under PGD fell to {:.1f} % from {:.1f} %, "
        "while training shows "
        "{:.1f} % under its own attack; a smaller --attack-alpha, more --attack-steps or a shorter "
        "run avoid it",
        step, 100 * probe, 100 * best_, 100 * training);
  }
  double best() const { return best_; }

 private:
  double drop_;
  double best_ = 0;
};

}  // namespace ringfort
