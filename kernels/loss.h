// Losses on logits: value, gradient and prediction of a sample in one pass over its row.
#pragma once

#include <cmath>
#include <type_traits>

#include "kernels/elementary.h"
#include "kernels/exec.h"
#include "kernels/mixup.h"
#include "kernels/scalar.h"

namespace ringfort {

// What a sample's probabilities should be: (1 - smoothing) mixed + smoothing / K, label smoothing
// as Szegedy et al. (2016) have it; mixed = share onehot(label) + (1 - share) onehot(other), of an
// image that is a mixture (kernels/mixup.h), else onehot(label).
template <class S>
struct Target {
  int32_t label, other;
  S on_label, on_other, everywhere;

  HD S at(int64_t k) const {
    return everywhere + (k == label ? on_label : S(0)) + (k == other ? on_other : S(0));
  }
  // sum_k t_k (from - z_k) but for what smoothing adds everywhere
  HD S below(const S* z, S from) const {
    const S own = on_label * (from - z[label]);
    return other < 0 ? own : own + on_other * (from - z[other]);
  }
  // A label that is no class was refused on the CPU; a device cannot throw.
  HD bool known(int64_t classes) const { return label >= 0 && label < classes && other < classes; }
};

template <class S>
struct Targets {
  const int32_t* labels;  // (N)
  S smoothing = S(0);
  const int32_t* others = nullptr;  // (N), or nullptr: nothing is mixed
  const float* share = nullptr;     // (N)

  HD Target<S> of(int64_t n, int64_t classes) const {
    const S rest = S(1) - smoothing, own = others == nullptr ? S(1) : S(share[n]);
    return {labels[n], others == nullptr ? -1 : others[n], rest * own, rest * (S(1) - own),
            smoothing / S(static_cast<double>(classes))};
  }
};

// A gradient as it is kept.
template <class D, class S>
HD D stored_as(S value) {
  if constexpr (std::is_same_v<D, BFloat16>)
    return to_bfloat16(value);
  else
    return value;
}

// loss = sum_k t_k (logsumexp(z) - z_k);  dz = weight (softmax(z) - t), t the target. The attack's
// weight is 1 (losses are summed, so a sample's gradient does not depend on its batch); training's
// is 1/B. D: S, or bfloat16 where the pass behind the logits is.
template <class S, class D = S>
struct CrossEntropyRow {
  const S* logits;  // (N, K)
  Targets<S> targets;
  int64_t classes;
  S weight;
  S* loss;     // (N)
  D* dlogits;  // (N, K), or nullptr where no gradient is wanted
  int32_t*
      prediction;  // (N): the class of the largest logit, the lowest index of equals; or nullptr

  template <class Row>
  HD void operator()(const Row& row, int64_t n) const {
    const S* z = logits + n * classes;
    D* const dz = dlogits == nullptr ? nullptr : dlogits + n * classes;
    constexpr bool kKeeps = std::is_same_v<D, S>;  // the exponentials in dz, for the second loop
    const auto logit = [z](int64_t k) { return z[k]; };
    const int64_t best = row.template argmax<S>(classes, logit);
    const S largest = z[best];
    const Target<S> target = targets.of(n, classes);
    const auto exponential = [=](int64_t k) { return exp_below_zero(z[k] - largest); };
    S total;
    if constexpr (kKeeps) {
      total = dz == nullptr
                  ? row.template sum<S>(classes, exponential)
                  : row.template sum<S>(classes, [=](int64_t k) { return dz[k] = exponential(k); });
    } else {
      total = row.template sum<S>(classes, exponential);
    }
    if (dz != nullptr) {
      const S scale = weight / total, w = weight;
      row.each(classes, [=](int64_t k) {
        S share;
        if constexpr (kKeeps)
          share = dz[k];
        else
          share = exponential(k);
        dz[k] = stored_as<D>(scale * share - w * target.at(k));
      });
    }
    S below = S(0);  // what smoothing adds: how far the logits lie below the largest, weighed
    if (target.everywhere != S(0))
      below = target.everywhere *
              row.template sum<S>(classes, [=](int64_t k) { return largest - z[k]; });
    if (row.first() && prediction != nullptr) prediction[n] = static_cast<int32_t>(best);
    // 1 <= total <= K: the largest logit's own term is 1
    if (!row.first()) return;
    loss[n] =
        target.known(classes) ? log_of_positive(total) + target.below(z, largest) + below : S(NAN);
  }
};

// TRADES (Zhang et al. 2019): loss = natural_weight CE(z, t) + beta KL(p || q), p = softmax(z) of
// the image, q = softmax(z_adv) of the adversarial one, KL(p || q) = sum_k p_k log(p_k / q_k), with
// its gradients to both sides:
//
//   dz_adv = weight beta (q - p)
//   dz = weight (natural_weight (p - t) + beta p (log(p / q) - KL))
//
// With natural_weight 0 and beta 1 it is the objective of TRADES' attack, which moves z_adv only.
template <class S, class D = S>
struct TradesRow {
  const S* logits;      // (N, K), z
  const S* logits_adv;  // (N, K), z_adv
  Targets<S> targets;
  int64_t classes;
  S weight, natural_weight, beta;
  S* loss;              // (N)
  D* dlogits;           // (N, K), or nullptr where no gradient of z is wanted
  D* dlogits_adv;       // (N, K), or nullptr
  int32_t* prediction;  // (N): of z_adv

  // log of the sum of the exponentials, at least the largest
  template <class Row>
  HD S log_sum(const Row& row, const S* z, int64_t largest_at) const {
    const S largest = z[largest_at];
    const S total =
        row.template sum<S>(classes, [=](int64_t k) { return exp_below_zero(z[k] - largest); });
    return log_of_positive(total) + largest;
  }

  template <class Row>
  HD void operator()(const Row& row, int64_t n) const {
    const S* z = logits + n * classes;
    const S* z_adv = logits_adv + n * classes;
    const auto arg_max = [&row, this](const S* x) {
      return row.template argmax<S>(classes, [x](int64_t k) { return x[k]; });
    };
    const int64_t best = arg_max(z_adv);
    const S total = log_sum(row, z, arg_max(z)), total_adv = log_sum(row, z_adv, best);
    const auto log_ratio = [=](int64_t k) { return (z[k] - total) - (z_adv[k] - total_adv); };
    const S divergence = row.template sum<S>(
        classes, [=](int64_t k) { return exp_below_zero(z[k] - total) * log_ratio(k); });
    const Target<S> target = targets.of(n, classes);
    const S a = natural_weight, b = beta, w = weight;
    if (dlogits != nullptr) {
      D* const dz = dlogits + n * classes;
      row.each(classes, [=](int64_t k) {
        const S p = exp_below_zero(z[k] - total);
        dz[k] = stored_as<D>(w * (a * (p - target.at(k)) + b * p * (log_ratio(k) - divergence)));
      });
    }
    if (dlogits_adv != nullptr) {
      D* const dz = dlogits_adv + n * classes;
      row.each(classes, [=](int64_t k) {
        dz[k] = stored_as<D>(w * b *
                             (exp_below_zero(z_adv[k] - total_adv) - exp_below_zero(z[k] - total)));
      });
    }
    S smoothed = S(0);
    if (a != S(0) && target.everywhere != S(0))
      smoothed =
          target.everywhere * row.template sum<S>(classes, [=](int64_t k) { return total - z[k]; });
    if (!row.first()) return;
    if (prediction != nullptr) prediction[n] = static_cast<int32_t>(best);
    S natural = S(0);
    if (a != S(0)) natural = target.known(classes) ? target.below(z, total) + smoothed : S(NAN);
    loss[n] = a * natural + b * divergence;
  }
};

// loss (N), dlogits (N, K), bfloat16 beside float32 logits too, or a view without data, prediction
// (N) int32 or a view without data. Errors: a label outside [0, K) names the sample and the label;
// on CUDA its loss is NaN.
void cross_entropy(Exec& exec, View loss, View dlogits, View prediction, View logits, View labels,
                   double weight, double smoothing = 0, const MixtureViews& mixture = {});

// total + weight part
struct AddWeighted {
  double weight;
  template <class S>
  HD S operator()(S total, S part) const {
    return total + S(weight) * part;
  }
};
// Losses of two parts: total <- total + weight part, N each.
void add_weighted(Exec& exec, View total, View part, double weight);

struct TradesWeights {
  double weight = 1;  // of the sample
  double natural = 1, beta = 6, smoothing = 0;
};
// TradesRow's; dlogits, dlogits_adv may be views without data. Errors: as cross_entropy.
void trades_loss(Exec& exec, View loss, View dlogits, View dlogits_adv, View prediction,
                 View logits, View logits_adv, View labels, const TradesWeights& weights,
                 const MixtureViews& mixture = {});

}  // namespace ringfort
