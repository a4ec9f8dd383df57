// Batch norm in the three modes of a pass, fused with the activation after it.
#include "engine/ops/ops.h"
#include "kernels/activation.h"

namespace ringfort {
namespace {

// scale x + shift under constants: an attack keeps one bit per rectified activation and nothing
// else.
Var running_norm_input_only(Pass& p, Var x, const NormVectors& norm, bool rectified) {
  Tensor y = p.empty_like(x.value);
  if (!x.needs_gradient()) {
    apply_norm(p.exec, y, x.value, norm, rectified);
    return {std::move(y), -1};
  }
  if (!rectified) {
    apply_norm(p.exec, y, x.value, norm, false);
    return p.gated(x, std::move(y), {Tensor(), norm.scale});
  }
  Tensor mask = p.empty(y.shape(), Dtype::kBit, y.layout());
  scale_shift_relu(p.exec, y, mask, x.value, norm.scale, norm.shift);
  return p.gated(x, std::move(y), {std::move(mask), norm.scale});
}

}  // namespace

Var batch_norm(Pass& p, Var x, const NormParams& norm, Activation activation) {
  const bool rectified = activation == Activation::kRelu;
  const bool running = p.options.bn == BnMode::kRunning;
  const View gamma = p.params.master(norm.gamma), beta = p.params.master(norm.beta);
  const int64_t channels = gamma.count();
  require(channels == x.value.shape().c, "batch_norm: '{}' has {} channels, its input has {}",
          p.params.segment(norm.gamma).name, channels, x.value.shape().c);

  if (running && !p.wants_parameter_gradients())
    return running_norm_input_only(p, std::move(x),
                                   p.params.cache().running(p.exec, p.params, norm), rectified);

  // From here on x is kept: its own backward needs it, and the sign of the output is computed anew
  // from it.
  const Tensor storage = p.empty(matrix_shape(8, channels), p.params.master_dtype());
  const NormVectors v = norm_vectors(storage, channels);
  const auto scratch = [&](int64_t i) {
    return reshaped(storage.view().samples(i, 1), vector_shape(channels));
  };
  if (running) {
    running_norm(p.exec, v, p.params.statistic(norm.mean), p.params.statistic(norm.variance), gamma,
                 beta, norm.epsilon);
  } else {
    batch_norm_statistics(p.exec, v, x.value, gamma, beta, {scratch(5), scratch(6), scratch(7)},
                          norm.epsilon);
    if (p.options.bn == BnMode::kBatchAndUpdate) {
      update_running(p.exec, p.params.statistic(norm.mean), p.params.statistic(norm.variance), v,
                     norm.momentum, x.value.shape().pixels());
      p.params.statistics_changed();
    }
  }
  Tensor y = p.empty_like(x.value);
  apply_norm(p.exec, y, x.value, v, rectified);

  const bool parameters = p.uses(norm.gamma);
  if (p.uses(norm.beta) != parameters || (!parameters && !x.needs_gradient()))
    return {std::move(y), -1};
  return p.tape.record(
      std::move(y), [&p, norm, storage, v, rectified, running, parameters, channels, kept = x.value,
                     to_x = GradientTarget(x)](const Tensor& dy) {
        const Tensor sums = p.empty(matrix_shape(2, channels), p.params.master_dtype());
        const View dbeta = reshaped(sums.view().samples(0, 1), vector_shape(channels));
        const View dgamma = reshaped(sums.view().samples(1, 1), vector_shape(channels));
        if (parameters || !running)
          norm_gradient_sums(p.exec, dbeta, dgamma, kept, dy, v, rectified);
        if (parameters) {
          p.write_gradient(norm.beta, [&](View d, float b) { accumulate(p.exec, d, dbeta, b); });
          p.write_gradient(norm.gamma, [&](View d, float b) { accumulate(p.exec, d, dgamma, b); });
        }
        if (!to_x.wanted()) return;
        p.write_input_gradient(to_x, [&](View dx, float b) {
          if (running)
            running_norm_backward(p.exec, dx, kept, dy, v, rectified, b);
          else
            batch_norm_backward(p.exec, dx, kept, dy, v, dbeta, dgamma, rectified, b);
        });
      });
}

}  // namespace ringfort
