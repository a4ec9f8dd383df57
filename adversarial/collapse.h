// The collapse probe's memory. Catastrophic overfitting (Wong et al. 2020): within a few hundred
// steps of single-step training, accuracy under PGD falls towards 0 while accuracy under the
// training attack rises.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

#include "kernels/error.h"

namespace ringfort {

// A probe tells a collapse where its accuracy is
//   - at least `drop` below the best probe's, or
//   - below half of the best by more than chance allows on so few images.
// The second is for accuracies that are not much more than `drop` at their best: 19 % may fall to 0
// without falling by 20 %.
class CollapseDetector {
 public:
  // drop: in (0, 1]. images: of each probe, at least 1.
  CollapseDetector(double drop, int64_t images) : drop_(drop), images_(images) {}

  // Accuracies in [0, 1]: of the probe (PGD) and of training under its own attack. A sentence where
  // it collapsed.
  std::optional<std::string> observe(double probe, double training, int64_t step) {
    if (probe >= best_) {
      best_ = probe;
      training_at_best_ = training;
    }
    if (probe > best_ - drop_ && probe >= best_ / 2 - noise_of_half()) return std::nullopt;
    const bool overfitting = training >= training_at_best_;
    return fmt::format(
        "{} at step {}: accuracy under PGD fell to {:.1f} % from {:.1f} %, while training went "
        "from {:.1f} % to {:.1f} % under its own attack; {}",
        overfitting ? "catastrophic overfitting" : "training diverges", step, 100 * probe,
        100 * best_, 100 * training_at_best_, 100 * training,
        overfitting ? "a smaller --attack-alpha, more --attack-steps or a shorter run avoid it"
                    : "a smaller --lr helps");
  }
  double best() const { return best_; }
  double training_at_best() const { return training_at_best_; }
  // Goes on with what another has seen.
  void resume(double best, double training_at_best) {
    best_ = best;
    training_at_best_ = training_at_best;
  }

 private:
  // Three standard errors of (a probe whose expectation is half the best) - (half the best): both
  // are shares of `images_` right answers, binomial with that many draws. With 256 images a best of
  // 19 % makes them 6.6 %; with 16 images they pass 9.5 %, and the second rule is silent.
  double noise_of_half() const {
    const double half = best_ / 2;
    const double variance = half * (1 - half) + best_ * (1 - best_) / 4;
    return 3 * std::sqrt(variance / static_cast<double>(images_));
  }

  double drop_;
  int64_t images_;
  double best_ = 0, training_at_best_ = 0;
};

}  // namespace ringfort
