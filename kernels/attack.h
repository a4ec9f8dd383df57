// Attack kernels: random starts and projected steps inside the threat model, pixels in [0, 1],
// always in float32 (in bfloat16 almost every grey level would leave the 8/255 ball by rounding) or
// float64. Order of projection: the ball first, the box last (training.md's P; box clipping only
// shrinks a perturbation).
#pragma once

#include <cmath>

#include "kernels/elementary.h"
#include "kernels/exec.h"
#include "kernels/philox.h"
#include "kernels/scalar.h"
#include "kernels/slots.h"

namespace ringfort {

// P(x): the Linf ball around x_nat, then the box. Its bounds are x_nat -+ eps as rounded in the
// scalar's precision.
struct LinfProjection {
  float eps, lower, upper;
  template <class S>
  HD S operator()(S x, S x_nat) const {
    return clamp(clamp(x, x_nat - S(eps), x_nat + S(eps)), S(lower), S(upper));
  }
};

// x <- P(x + alpha sign(grad)); sign(0) = 0 (Madry et al. 2018).
struct LinfStep {
  float alpha;
  LinfProjection project;
  template <class S>
  HD S operator()(S x, S grad, S x_nat) const {
    return project(x + S(alpha) * sign(grad), x_nat);
  }
};

// x <- P(x_nat + U(-eps, eps)), u uniform in (0, 1).
struct LinfStart {
  LinfProjection project;
  template <class S>
  HD S operator()(S x_nat, S u) const {
    return project(x_nat + S(project.eps) * (S(2) * u - S(1)), x_nat);
  }
};

// Standard normal quantile of u in (0, 1): Acklam's rational approximation, relative error
// below 1.2e-9 before rounding.
template <class S>
HD inline S normal_quantile(S u);

struct NormalNoise {
  template <class S>
  HD S operator()(S, S u) const {
    return normal_quantile(u);
  }
};

// How far inside the L2 ball perturbations end, relatively. What remains is the rounding of x
// itself: half an ulp of 1 per pixel. It averages out, except where all gradients are equal: then
// |x - x_nat|_2 <= eps + 2^-25 sqrt(length).
inline constexpr double kInside = 1 - 1e-6;

// x <- clip(x_nat + shrink(d)), d = x + alpha grad / (|grad|_2 + 1e-10) - x_nat, shrink: radially
// onto |d|_2 <= eps.
template <class S>
struct L2StepRow {
  S* x;
  const S* grad;
  const S* x_nat;
  int64_t length;
  float alpha, eps, lower, upper;

  template <class Row>
  HD void operator()(const Row& row, int64_t n) const {
    using std::sqrt;
    S* const to = x + n * length;
    const S* const from = x + n * length;
    const S* const g = grad + n * length;
    const S* const nat = x_nat + n * length;
    const S low(lower), high(upper);
    const S norm = sqrt(row.template sum<S>(length, [g](int64_t i) { return g[i] * g[i]; }));
    const S step = S(alpha) / (norm + S(1e-10));
    const S distance = sqrt(row.template sum<S>(length, [=](int64_t i) {
      const S d = from[i] + step * g[i] - nat[i];
      return d * d;
    }));
    // kInside keeps the rounding of the sums from letting |d| above eps.
    const S limit = S(eps) * S(kInside);
    const S shrink = distance > limit ? limit / distance : S(1);
    row.each(length, [=](int64_t i) {
      const S d = from[i] + step * g[i] - nat[i];
      to[i] = clamp(nat[i] + shrink * d, low, high);
    });
  }
};

// x <- clip(x_nat + r noise / |noise|_2), r uniform in (0, eps): a Gaussian direction with a
// uniform radius.
template <class S>
struct L2StartRow {
  S* x;  // holds the noise on entry
  const S* x_nat;
  const int64_t* samples;
  int64_t length;
  RandomKey key;
  float eps, lower, upper;

  template <class Row>
  HD void operator()(const Row& row, int64_t n) const {
    using std::sqrt;
    S* const at = x + n * length;
    const S* const nat = x_nat + n * length;
    const S norm = sqrt(row.template sum<S>(length, [at](int64_t i) { return at[i] * at[i]; }));
    const S radius = S(eps) * S(1 - 1e-6) *
                     S(uniform01(key.word(static_cast<uint64_t>(samples[n]), 0xFFFFFFFFu)));
    const S scale = radius / (norm + S(1e-12)), low(lower), high(upper);
    row.each(length, [=](int64_t i) { at[i] = clamp(nat[i] + scale * at[i], low, high); });
  }
};

// All views (N, H, W, C), channels last. samples: data-set indices, N of them.
void linf_start(Exec& exec, View x_adv, View x_nat, const LinfProjection& project, RandomKey key,
                const int64_t* samples);
void linf_step(Exec& exec, View x_adv, View grad, View x_nat, const LinfStep& step);
void l2_start(Exec& exec, View x_adv, View x_nat, float eps, float lower, float upper,
              RandomKey key, const int64_t* samples);
void l2_step(Exec& exec, View x_adv, View grad, View x_nat, float alpha, float eps, float lower,
             float upper);

// c[0] x^(n-1) + ... + c[n-1]
template <class S, size_t kCount>
HD inline S polynomial(S x, const double (&c)[kCount]) {
  S sum = S(c[0]);
  for (size_t i = 1; i < kCount; ++i) sum = sum * x + S(c[i]);
  return sum;
}

// Both branches are computed, and one division, so that loops over it vectorise.
template <class S>
HD inline S normal_quantile(S u) {
  using std::sqrt;
  const S q = u - S(0.5);
  const bool lower = q < S(0);
  const bool centre = q > S(-0.47575) && q < S(0.47575);

  const S r = q * q;
  const S centre_above =
      q * polynomial(r, {-3.969683028665376e+01, 2.209460984245205e+02, -2.759285104469687e+02,
                         1.383577518672690e+02, -3.066479806614716e+01, 2.506628277459239e+00});
  const S centre_below =
      polynomial(r, {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                     6.680131188771972e+01, -1.328068155288572e+01, 1.0});

  const S t = sqrt(S(-2) * log_of_positive(lower ? u : S(1) - u));
  const S edge_above =
      polynomial(t, {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                     -2.549732539343734e+00, 4.374664141464968e+00, 2.938163982698783e+00});
  const S edge_below = polynomial(t, {7.784695709041462e-03, 3.224671290700398e-01,
                                      2.445134137142996e+00, 3.754408661907416e+00, 1.0});

  const S above = centre ? centre_above : (lower ? edge_above : S(0) - edge_above);
  return above / (centre ? centre_below : edge_below);
}

}  // namespace ringfort
