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

// c[0] x^(n-1) + ... + c[n-1]
template <class S, size_t kCount>
HD inline S polynomial(S x, const double (&c)[kCount]) {
  S sum = S(c[0]);
  for (size_t i = 1; i < kCount; ++i) sum = sum * x + S(c[i]);
  return sum;
}

// Standard normal quantile of u in [2^-24, 1 - 2^-24], the range of uniform01: with x = 2u - 1 and
// w = -log(1 - x^2) < 15.25 it is x times a function of w so smooth (Giles, "Approximating the
// erfinv function", 2012) that one polynomial serves the whole range: no division, root or choice.
// The coefficients are a weighted least-squares fit on Chebyshev points, the weights moved until
// the largest errors were alike. Relative error below 7e-8, and 4e-7 with float32's rounding.
template <class S>
HD inline S normal_quantile(S u) {
  const S w = S(0) - log_of_positive(S(4) * u * (S(1) - u));
  const S factor = polynomial(
      w * S(2 / 15.25) - S(1),
      {5.10982347e-03, -1.04376384e-02, -1.09514546e-02, 3.88171456e-02, -1.80849688e-02,
       -2.45701437e-02, 4.29577769e-02, -5.42829134e-02, 6.08991858e-02, -3.43946585e-02,
       -3.61462798e-02, 1.61885491e-01, -4.38996373e-01, 1.94374743e+00, 3.66929122e+00});
  return (S(2) * u - S(1)) * factor;
}

// x <- P(x_nat + 0.001 N(0, 1)), u uniform in (0, 1) (TRADES; Zhang et al. 2019).
struct NearbyStart {
  LinfProjection project;
  template <class S>
  HD S operator()(S x_nat, S u) const {
    return project(x_nat + S(0.001) * normal_quantile(u), x_nat);
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
  S* x;
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
    const auto sample = static_cast<uint64_t>(samples[n]);
    row.template each_uniform<S>(key, sample, length,
                                 [at](int64_t i, S u) { at[i] = normal_quantile(u); });
    const S norm = sqrt(row.template sum<S>(length, [at](int64_t i) { return at[i] * at[i]; }));
    const S radius = S(eps) * S(kInside) * S(uniform01(key.word(sample, 0xFFFFFFFFu)));
    const S scale = radius / (norm + S(1e-12)), low(lower), high(upper);
    row.each(length, [=](int64_t i) { at[i] = clamp(nat[i] + scale * at[i], low, high); });
  }
};

// All views (N, H, W, C), channels last. samples: data-set indices, N of them.
void linf_start(Exec& exec, View x_adv, View x_nat, const LinfProjection& project, RandomKey key,
                const int64_t* samples);
void nearby_start(Exec& exec, View x_adv, View x_nat, const LinfProjection& project, RandomKey key,
                  const int64_t* samples);
void linf_step(Exec& exec, View x_adv, View grad, View x_nat, const LinfStep& step);
void l2_start(Exec& exec, View x_adv, View x_nat, float eps, float lower, float upper,
              RandomKey key, const int64_t* samples);
void l2_step(Exec& exec, View x_adv, View grad, View x_nat, float alpha, float eps, float lower,
             float upper);

}  // namespace ringfort
