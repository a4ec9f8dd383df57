// Losses on logits: value, gradient and prediction of a sample in one pass over its row.
#pragma once

#include <cmath>

#include "kernels/exec.h"
#include "kernels/scalar.h"
#include "kernels/slots.h"

namespace ringfort {

// loss = logsumexp(z) - z_y;  dz = weight (softmax(z) - onehot(y)). The attack's weight is 1
// (losses are summed, so a sample's gradient does not depend on its batch); training's is 1/B.
template <class S>
struct CrossEntropyRow {
  const S* logits;        // (N, K)
  const int32_t* labels;  // (N)
  int64_t classes;
  S weight;
  S* loss;     // (N)
  S* dlogits;  // (N, K), or nullptr where no gradient is wanted
  int32_t*
      prediction;  // (N): the class of the largest logit, the lowest index of equals; or nullptr

  template <class Row>
  HD void operator()(const Row& row, int64_t n) const {
    using std::exp;
    using std::log;
    const S* z = logits + n * classes;
    const auto logit = [z](int64_t k) { return z[k]; };
    const S largest = row.template max<S>(classes, logit);
    const S total =
        row.template sum<S>(classes, [z, largest](int64_t k) { return exp(z[k] - largest); });
    const int32_t label = labels[n];
    if (dlogits != nullptr) {
      S* dz = dlogits + n * classes;
      const S scale = weight;
      row.each(classes, [=](int64_t k) {
        dz[k] = scale * (exp(z[k] - largest) / total - (k == label ? S(1) : S(0)));
      });
    }
    if (prediction != nullptr) {
      const int64_t best = row.template argmax<S>(classes, logit);
      if (row.first()) prediction[n] = static_cast<int32_t>(best);
    }
    if (row.first()) loss[n] = log(total) + (largest - z[label]);
  }
};

// loss (N), dlogits (N, K) or a view without data, prediction (N) int32 or a view without data.
// Errors: a label outside [0, K) names the sample and the label.
void cross_entropy(Exec& exec, View loss, View dlogits, View prediction, View logits, View labels,
                   double weight);

}  // namespace ringfort
