// Which epoch's weights are kept as the best.
#pragma once

#include <optional>

namespace ringfort {

// By accuracy on held-out images under PGD, never by clean accuracy: robust accuracy falls again
// late in training while clean accuracy still rises (robust overfitting, Rice et al. 2020).
class BestEpoch {
 public:
  // epoch from 1; robust_accuracy in [0, 1], none without held-out images: the newest is kept then.
  // True where this epoch is the best so far; the earlier of equals stays.
  bool observe(int epoch, std::optional<double> robust_accuracy) {
    const bool better = epoch_ == 0 || !robust_accuracy || *robust_accuracy > *robust_accuracy_;
    if (!better) return false;
    epoch_ = epoch;
    robust_accuracy_ = robust_accuracy;
    return true;
  }

  // Goes on with what another has seen.
  void resume(int epoch, std::optional<double> robust_accuracy) {
    epoch_ = epoch;
    robust_accuracy_ = robust_accuracy;
  }

  int epoch() const { return epoch_; }  // 0: none yet
  std::optional<double> robust_accuracy() const { return robust_accuracy_; }

 private:
  int epoch_ = 0;
  std::optional<double> robust_accuracy_;
};

}  // namespace ringfort
