// Batch normalisation (Ioffe and Szegedy 2015) per channel, fused with the ReLU that follows it.
// Three modes exist one level up (engine/ops/batch_norm): here are the pieces. m is the number of
// elements per channel, xhat the normalised x.
#pragma once

#include "kernels/exec.h"
#include "kernels/slots.h"

namespace ringfort {

// Sums of x - pivot and (x - pivot)^2: the pivot, any value of the channel, keeps the variance from
// cancelling.
struct PivotedMoments {
  template <class S>
  HD Results<S, 2> operator()(S x, S pivot) const {
    const S d = x - pivot;
    return {{d, d * d}};
  }
};

// From the sums: {mean, inv_std, scale, shift, biased variance} with scale x + shift = gamma xhat +
// beta.
struct BatchNormFromMoments {
  double count, epsilon;
  template <class S>
  HD Results<S, 5> operator()(S sum, S sum_of_squares, S pivot, S gamma, S beta) const {
    using std::sqrt;
    const S d = sum / S(count);
    const S spread = sum_of_squares / S(count) - d * d;
    const S variance = spread > S(0) ? spread : S(0);
    const S inv_std = S(1) / sqrt(variance + S(epsilon));
    const S mean = pivot + d, scale = gamma * inv_std;
    return {{mean, inv_std, scale, beta - mean * scale, variance}};
  }
};

// running <- (1 - momentum) running + momentum batch; the running variance takes the unbiased batch
// variance.
struct UpdateRunning {
  float momentum;
  double unbiased;  // m / (m - 1)
  template <class S>
  HD Results<S, 2> operator()(S running_mean, S running_variance, S mean, S variance) const {
    const S keep = S(1) - S(momentum);
    return {{keep * running_mean + S(momentum) * mean,
             keep * running_variance + S(momentum) * S(unbiased) * variance}};
  }
  // With a count that only the device knows.
  template <class S>
  HD Results<S, 2> operator()(S running_mean, S running_variance, S mean, S variance,
                              S count) const {
    const S keep = S(1) - S(momentum);
    return {{keep * running_mean + S(momentum) * mean,
             keep * running_variance + S(momentum) * (count / (count - S(1))) * variance}};
  }
};

// From mean and inv_std, which is all that a library's kernel hands out: {scale, shift, biased
// variance}.
struct BatchNormFromSaved {
  double epsilon;
  template <class S>
  HD Results<S, 3> operator()(S mean, S inv_std, S gamma, S beta) const {
    const S scale = gamma * inv_std;
    const S spread = S(1) / (inv_std * inv_std) - S(epsilon);
    return {{scale, beta - mean * scale, spread > S(0) ? spread : S(0)}};
  }
};

// {inv_std, scale, shift} of normalisation by running statistics
struct BatchNormFromRunning {
  double epsilon;
  template <class S>
  HD Results<S, 3> operator()(S mean, S variance, S gamma, S beta) const {
    using std::sqrt;
    const S inv_std = S(1) / sqrt(variance + S(epsilon));
    const S scale = gamma * inv_std;
    return {{inv_std, scale, beta - mean * scale}};
  }
};

// The gradient that reaches the norm's output z = scale x + shift, through the ReLU where there is
// one. The sign of z is computed anew from x, which the backward needs anyway: no mask is kept.
template <bool kRelu, class S>
HD inline S through_relu(S x, S dy, S scale, S shift) {
  return !kRelu || x * scale + shift > S(0) ? dy : S(0);
}

// {dz, dz xhat}: their sums are dbeta and dgamma.
template <bool kRelu>
struct BatchNormGradientSums {
  template <class S>
  HD Results<S, 2> operator()(S x, S dy, S scale, S shift, S mean, S inv_std) const {
    const S dz = through_relu<kRelu>(x, dy, scale, shift);
    return {{dz, dz * (x - mean) * inv_std}};
  }
};

// dx = scale (dz - dbeta/m - xhat dgamma/m), the statistics being functions of x.
template <bool kRelu>
struct BatchNormBackward {
  double inv_count;
  template <class S>
  HD S operator()(S x, S dy, S scale, S shift, S mean, S inv_std, S dbeta, S dgamma) const {
    const S dz = through_relu<kRelu>(x, dy, scale, shift);
    const S m = S(inv_count);
    return scale * (dz - dbeta * m - (x - mean) * inv_std * (dgamma * m));
  }
  template <class S>
  HD S operator()(S x, S dy, S dx, S scale, S shift, S mean, S inv_std, S dbeta, S dgamma) const {
    return dx + (*this)(x, dy, scale, shift, mean, inv_std, dbeta, dgamma);
  }
};

// dx = scale dz: running statistics are constants.
template <bool kRelu>
struct RunningNormBackward {
  template <class S>
  HD S operator()(S x, S dy, S scale, S shift) const {
    return scale * through_relu<kRelu>(x, dy, scale, shift);
  }
  template <class S>
  HD S operator()(S x, S dy, S dx, S scale, S shift) const {
    return dx + (*this)(x, dy, scale, shift);
  }
};

// Per-channel vectors of one normalisation, C values each, float32 (float64 with float64
// activations).
struct NormVectors {
  View mean, inv_std, scale, shift, variance;
};

// Statistics of x into every vector of `norm`. gamma, beta: C. scratch vectors: 3 x C, same dtype.
void batch_norm_statistics(Exec& exec, const NormVectors& norm, View x, View gamma, View beta,
                           const View (&scratch)[3], double epsilon);

// scale, shift and variance of a norm whose mean and inv_std are known.
void complete_norm(Exec& exec, const NormVectors& norm, View gamma, View beta, double epsilon);

// Moves running statistics towards the batch's; `count` elements per channel were seen.
void update_running(Exec& exec, View running_mean, View running_variance, const NormVectors& norm,
                    float momentum, int64_t count);

// inv_std, scale and shift from running statistics (mean is copied, variance left alone).
void running_norm(Exec& exec, const NormVectors& norm, View running_mean, View running_variance,
                  View gamma, View beta, double epsilon);

// What is done to a norm's output in the same kernel: y = relu?(scale x + shift (+ residual)).
struct NormEpilogue {
  bool relu = false;
  View residual = {};  // like x, or without data. REQUIRES: relu
  View mask = {};      // kBit, like x: where y > 0; without data: not kept. REQUIRES: relu
};

void apply_norm(Exec& exec, View y, View x, const NormVectors& norm, const NormEpilogue& epilogue);

// Statistics and output of a training pass: batch_norm_statistics, then apply_norm, or one kernel
// of a library's where that is faster (norm_cuda.h).
void batch_norm_forward(Exec& exec, View y, const NormVectors& norm, View x, View gamma, View beta,
                        const NormEpilogue& epilogue, const View (&scratch)[3], double epsilon);

// dbeta and dgamma (C each, overwritten).
void norm_gradient_sums(Exec& exec, View dbeta, View dgamma, View x, View dy,
                        const NormVectors& norm, bool relu);

// dx for batch statistics (dbeta, dgamma as computed above) or for running ones.
void batch_norm_backward(Exec& exec, View dx, View x, View dy, const NormVectors& norm, View dbeta,
                         View dgamma, bool relu, float beta);
// All three gradients: norm_gradient_sums, then batch_norm_backward, or one kernel of a library's.
// dx may be without data.
void batch_norm_gradients(Exec& exec, View dx, View dbeta, View dgamma, View x, View dy, View gamma,
                          const NormVectors& norm, bool relu, float beta);
void running_norm_backward(Exec& exec, View dx, View x, View dy, const NormVectors& norm, bool relu,
                           float beta);

// w(o, ...) * scale(o): a norm with running statistics folded into the filter before it.
void fold_scale(Exec& exec, View folded, View w, View scale);

}  // namespace ringfort
