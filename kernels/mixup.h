// Mixup (Zhang et al. 2018), "mixup: Beyond Empirical Risk Minimization": an image becomes the
// mixture s x_i + (1 - s) x_j of itself and another of its batch, s ~ Beta(alpha, alpha), and so
// does its label. Rice et al. (2020) attack such mixtures.
#pragma once

#include <cmath>

#include "kernels/attack.h"
#include "kernels/exec.h"
#include "kernels/philox.h"

namespace ringfort {

// A sample's own stream of uniform numbers, for draws that take an unknown number of them.
class SampleStream {
 public:
  HD SampleStream(const RandomKey& key, int64_t sample)
      : key_(key), sample_(static_cast<uint64_t>(sample)) {}
  HD double uniform() { return uniform01(key_.word(sample_, element_++)); }
  HD double normal() { return normal_quantile(uniform()); }

 private:
  RandomKey key_;
  uint64_t sample_;
  uint32_t element_ = 0;
};

// log of a Gamma(shape, 1) number: Marsaglia and Tsang, "A Simple Method for Generating Gamma
// Variables" (2000). Its logarithm, because for small shapes it is often below any double.
HD inline double log_gamma_draw(SampleStream& stream, double shape) {
  const double boost = shape < 1 ? std::log(stream.uniform()) / shape : 0;
  const double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = stream.normal(), root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root, log_v = std::log(v);
    if (std::log(stream.uniform()) < 0.5 * x * x + d - d * v + d * log_v)
      return std::log(d) + log_v + boost;
  }
}

// Beta(alpha, alpha) as X / (X + Y) of two Gamma numbers.
HD inline double beta_draw(SampleStream& stream, double alpha) {
  const double x = log_gamma_draw(stream, alpha), y = log_gamma_draw(stream, alpha);
  return 1 / (1 + std::exp(y - x));
}

// What each sample was mixed with and how much of it is its own, at least a half: (N) int32 labels
// and float32 shares. Without data: nothing was mixed.
struct MixtureViews {
  View labels = {}, share = {};
};

// mixed, x (N, H, W, C) float32, not the same memory. Image n is mixed with image N - 1 - n; which
// of the two is the larger share makes no difference to what mixtures there are, and so it is its
// own: its label is the more probable one. samples (N) int64, on the device. Errors: alpha is not
// positive, or so small (below 1e-300) that even logarithms of Gamma numbers overflow.
void mix_up(Exec& exec, View mixed, const MixtureViews& mixture, View x, View labels, View samples,
            double alpha, const RandomKey& key);

}  // namespace ringfort
