// Losses on logits: value, gradient and prediction of a sample in one pass over its row.
#pragma once

#include <cmath>

#include "kernels/elementary.h"
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
    const S* z = logits + n * classes;
    S* const dz = dlogits == nullptr ? nullptr : dlogits + n * classes;
    const auto logit = [z](int64_t k) { return z[k]; };
    const int64_t best = row.template argmax<S>(classes, logit);
    const S largest = z[best];
    const int32_t label = labels[n];
    S total;
    if (dz == nullptr) {
      total =
          row.template sum<S>(classes, [=](int64_t k) { return exp_below_zero(z[k] - largest); });
    } else {
      total = row.template sum<S>(
          classes, [=](int64_t k) { return dz[k] = exp_below_zero(z[k] - largest); });
      const S scale = weight / total, at_label = weight;
      row.each(classes, [=](int64_t k) { dz[k] = scale * dz[k] - (k == label ? at_label : S(0)); });
    }
    if (row.first() && prediction != nullptr) prediction[n] = static_cast<int32_t>(best);
    // 1 <= total <= K: the largest logit's own term is 1
    if (!row.first()) return;
    // A label that is no class was refused on the CPU; a device cannot throw and says NaN.
    const bool known = label >= 0 && label < classes;
    loss[n] = known ? log_of_positive(total) + (largest - z[label]) : S(NAN);
  }
};

// loss (N), dlogits (N, K) or a view without data, prediction (N) int32 or a view without data.
// Errors: a label outside [0, K) names the sample and the label; on CUDA its loss is NaN.
void cross_entropy(Exec& exec, View loss, View dlogits, View prediction, View logits, View labels,
                   double weight);

// A sample's share of a batch's totals: its loss, and 1 where the prediction is the label.
struct LossAndHit {
  template <class S>
  HD Results<S, 2> operator()(S loss, S prediction, S label) const {
    return {{loss, prediction == label ? S(1) : S(0)}};
  }
};

// loss_sum and hits, one float64 each, grow by the batch's: of many steps the host reads one sum,
// and no step waits for it. loss (N) float32 or float64, prediction and labels (N) int32.
void add_batch_totals(Exec& exec, View loss_sum, View hits, View loss, View prediction,
                      View labels);

}  // namespace ringfort
