// Optimizer updates over flat buffers: one pass reads gradient, weight and state and writes weight,
// state and, where there are such, the average of the weights and the copy that the engine computes
// with. Layer-wise methods first take norms per segment. Whatever changes from step to step is read
// on the device, so that a recorded update is right at every replay.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/exec.h"
#include "kernels/scalar.h"
#include "kernels/segments.h"
#include "kernels/slots.h"

namespace ringfort {

// Of one step; float64 on the device, in this order.
struct StepRates {
  double lr = 0;
  double momentum = 0;   // of SGD and LARS; beta1 of Adam and LAMB
  double averaging = 0;  // a in average <- a average + (1 - a) w
  static constexpr int64_t kCount = 3;
};

// Of Adam's two means over t updates: the products of their betas, which are what the zeros they
// began with still weigh, and so 1 - them what they are to be divided by. float64 on the device.
struct MeanWeights {
  double first = 1, second = 1;
  static constexpr int64_t kCount = 2;
};

// What check_gradient found; float64 on the device, in this order.
struct GradientCheck {
  double scale = 1;   // what the gradient is multiplied by: below 1 where it is clipped
  double finite = 1;  // 0: gradient or loss is not finite, and the step must change nothing
  static constexpr int64_t kCount = 2;
};

// What an update formula is given beside its elements.
struct StepNumbers {
  StepRates rates;
  GradientCheck check;
  double first_correction = 1, second_correction = 1;  // 1 - MeanWeights; 1: no correction

  template <class S>
  HD S clipped(S gradient) const {
    return S(check.scale) * gradient;
  }
};

// The formulas. w: the weight to move; seen: the weight that the gradient was formed at, which
// differs from w under weight perturbation; decay: 1 where a segment decays, else 0; ratio: the
// segment's trust ratio. Each returns the new weight, then the new state.

// SGD as PyTorch defines it: g <- grad + weight_decay w;  m <- momentum m + g;  w <- w - lr
// (nesterov ? g + momentum m : m).
struct SgdUpdate {
  double weight_decay = 0;
  bool nesterov = false;

  template <class S>
  HD Results<S, 2> operator()(const StepNumbers& step, S w, S m, S grad, S seen, S decay) const {
    const S momentum = S(step.rates.momentum);
    const S g = step.clipped(grad) + decay * S(weight_decay) * seen;
    const S next = momentum * m + g;
    return {{w - S(step.rates.lr) * (nesterov ? g + momentum * next : next), next}};
  }
};

// LARS (You et al. 2017): SGD whose rate is lr times the segment's trust ratio. As in its source
// the rate is inside the momentum, which a later change of lr therefore does not rescale.
struct LarsUpdate {
  double weight_decay = 0;
  bool nesterov = false;

  template <class S>
  HD Results<S, 2> operator()(const StepNumbers& step, S w, S m, S grad, S seen, S decay,
                              S ratio) const {
    const S momentum = S(step.rates.momentum);
    const S g = S(step.rates.lr) * ratio * (step.clipped(grad) + decay * S(weight_decay) * seen);
    const S next = momentum * m + g;
    return {{w - (nesterov ? g + momentum * next : next), next}};
  }
};

// Adam's means of the gradient and of its square (Kingma and Ba 2015). coupled_decay: weight decay
// as a part of the gradient, which is Adam's and neither AdamW's nor LAMB's.
struct AdamMoments {
  double second_beta = 0.999, coupled_decay = 0;

  template <class S>
  HD Results<S, 2> operator()(const StepNumbers& step, S m, S v, S grad, S seen, S decay) const {
    const S g = step.clipped(grad) + decay * S(coupled_decay) * seen;
    const S first = S(step.rates.momentum), second = S(second_beta);
    return {{first * m + (S(1) - first) * g, second * v + (S(1) - second) * g * g}};
  }
};

// u = mhat / (sqrt(vhat) + eps) + weight_decay w: AdamW's direction (Loshchilov and Hutter 2019),
// Adam's where the decay is 0 here, and LAMB's.
struct AdamDirection {
  double eps = 1e-8, weight_decay = 0;

  template <class S>
  HD S operator()(const StepNumbers& step, S m, S v, S seen, S decay) const {
    using std::sqrt;
    const S mean = m / S(step.first_correction);
    const S square = v / S(step.second_correction);
    return mean / (sqrt(square) + S(eps)) + decay * S(weight_decay) * seen;
  }
};

struct AdamUpdate {
  AdamMoments moments;
  AdamDirection direction;

  template <class S>
  HD Results<S, 3> operator()(const StepNumbers& step, S w, S m, S v, S grad, S seen,
                              S decay) const {
    const Results<S, 2> next = moments(step, m, v, grad, seen, decay);
    const S u = direction(step, next.value[0], next.value[1], seen, decay);
    return {{w - S(step.rates.lr) * u, next.value[0], next.value[1]}};
  }
};

// LAMB (You et al. 2020), after its moments have been moved and its norms taken.
struct LambUpdate {
  AdamDirection direction;

  template <class S>
  HD Results<S, 1> operator()(const StepNumbers& step, S w, S m, S v, S seen, S decay,
                              S ratio) const {
    return {{w - S(step.rates.lr) * ratio * direction(step, m, v, seen, decay)}};
  }
};

// The trust ratio of a segment from the squared norms of its weights and of what moves them; 1
// where either is 0, and in a segment that is not layer-wise (adapted 0).
struct LarsRatio {
  double coefficient = 0.001, weight_decay = 0, eps = 0;

  // ratio = coefficient |w| / (|g| + weight_decay |w| + eps), g without its decay
  template <class S>
  HD S operator()(const StepNumbers& step, S w_squares, S g_squares, S decay, S adapted) const {
    using std::sqrt;
    const S w = sqrt(w_squares), g = step.clipped(sqrt(g_squares));
    const bool trusted = adapted != S(0) && w > S(0) && g > S(0);
    return trusted ? S(coefficient) * w / (g + decay * S(weight_decay) * w + S(eps)) : S(1);
  }
};
struct LambRatio {
  double largest = 0;  // what a norm of weights counts at most (DAT: 10); 0: as it is

  // ratio = min(|w|, largest) / |u|
  template <class S>
  HD S operator()(const StepNumbers&, S w_squares, S u_squares, S adapted) const {
    using std::sqrt;
    const S w = sqrt(w_squares), u = sqrt(u_squares);
    const bool trusted = adapted != S(0) && w > S(0) && u > S(0);
    return trusted ? (largest > 0 ? minimum(w, S(largest)) : w) / u : S(1);
  }
};

// The buffers of a model that every update works on. Those without data are left out.
struct UpdateBuffers {
  View w;         // read: the weights to move
  View seen;      // read: the weights that the gradient was formed at, which may be `out`
  View gradient;  // read
  View out;       // written: the new weights; may be w
  View average;   // read and written
  View copy;      // written: the new weights in another dtype
  const SegmentTable& table;
  View decay;  // per segment: 1 where it decays, else 0; float64
  View rates;  // StepRates
  View check;  // GradientCheck
  View means;  // MeanWeights of this update; without data: no bias is corrected
};

// means: those of one update more, where check says that there is one.
void count_update(Exec& exec, View means, View rates, View check, double second_beta);

void sgd_update(Exec& exec, const UpdateBuffers& buffers, View m, const SgdUpdate& update);
void adam_update(Exec& exec, const UpdateBuffers& buffers, View m, View v,
                 const AdamUpdate& update);

// Layer-wise methods. adapted: per segment, 0 where the ratio stays 1; float64.
struct LayerNorms {
  View adapted;
  View w_squares, other_squares, ratio;  // written: float64, per segment
};
// other_squares: of the gradient, which check_gradient's caller has taken.
void lars_update(Exec& exec, const UpdateBuffers& buffers, const LayerNorms& norms, View m,
                 const LarsUpdate& update, const LarsRatio& ratio);
void lamb_update(Exec& exec, const UpdateBuffers& buffers, const LayerNorms& norms, View m, View v,
                 const AdamMoments& moments, const LambUpdate& update, const LambRatio& ratio);

// a and b trade places, bit for bit.
void exchange(Exec& exec, View a, View b);

// Float64 as its sum is: in float32 an element above 1.8e19 would count as infinite.
struct Square {
  template <class S>
  HD auto operator()(S x) const {
    if constexpr (std::is_same_v<S, float>)
      return static_cast<double>(x) * static_cast<double>(x);
    else
      return x * x;
  }
};

// squares(s) = the sum of the squares of the segment's elements: float32 or float64.
void segment_squares(Exec& exec, View squares, View flat, const SegmentTable& table);

// check.scale = min(1, longest / norm), the norm of the gradient over all segments, which makes it
// no longer than `longest` (Pascanu et al. 2013; 0: any length). check.finite = whether norm and
// loss, one number, are; a loss without data is. most: the square of the norm, as it is clipped,
// up to which the optimizer's state is finite.
void check_gradient(Exec& exec, View check, View squares, View loss, double longest,
                    double most = std::numeric_limits<double>::infinity());

}  // namespace ringfort
