// Batch norm in the three modes of a pass, fused with the activation after it.
#include "engine/ops/ops.h"
#include "kernels/activation.h"

namespace ringfort {
namespace {

// Where the network's own gradient kernels write through masks, one bit per element saves the
// norm's backward from computing its activation anew. A residual is not kept, so there is no other
// way.
bool keeps_mask(const Pass& p, bool rectified, bool residual) {
  return residual || (rectified && p.exec.device().kind == DeviceKind::kCuda);
}

// relu?(scale x + shift (+ residual)) under constants: an attack keeps one bit per rectified
// activation and nothing else.
Var running_norm_input_only(Pass& p, const Var& x, const NormVectors& norm, bool rectified,
                            const Var* residual) {
  Tensor y = p.empty_like(x.value);
  NormEpilogue epilogue{.relu = rectified};
  if (residual) epilogue.residual = residual->value;
  const bool recorded = x.needs_gradient() || (residual && residual->needs_gradient());
  Tensor mask;
  if (recorded && rectified) epilogue.mask = mask = p.empty(y.shape(), Dtype::kBit, y.layout());
  apply_norm(p.exec, y, x.value, norm, epilogue);
  if (!recorded) return {std::move(y), -1};
  if (!residual) return p.gated(x, std::move(y), {std::move(mask), norm.scale});
  Var sum = p.tape.record(std::move(y), [&p, scale = norm.scale, to_x = GradientTarget(x),
                                         to_residual = GradientTarget(*residual)](Tensor dy) {
    if (to_x.wanted())
      p.write_input_gradient(to_x,
                             [&](View dx, float b) { scale_backward(p.exec, dx, dy, scale, b); });
    if (to_residual.wanted()) p.give(to_residual, std::move(dy));
  });
  sum.gate = {std::move(mask), {}};
  return sum;
}

// What a norm's backward needs of its forward.
struct KeptNorm {
  NormParams norm;
  Tensor storage;  // of `vectors`
  NormVectors vectors;
  bool running, parameters;
  bool relu;  // to be computed anew from x; false: none, or the gradient comes through a mask
  Tensor x;
  GradientTarget to_x, to_residual;
  View joint_count;  // elements per channel on all ranks; without data: statistics are this rank's
};

// dy: of relu?(norm(x)), or of norm(x) where it came through the mask.
void backward_norm(Pass& p, const KeptNorm& kept, Tensor dy) {
  const View gamma = p.params.master(kept.norm.gamma);
  const int64_t channels = gamma.count();
  const Tensor sums = p.empty(matrix_shape(2, channels), p.params.master_dtype());
  const View dbeta = reshaped(sums.view().samples(0, 1), vector_shape(channels));
  const View dgamma = reshaped(sums.view().samples(1, 1), vector_shape(channels));
  const NormVectors& v = kept.vectors;
  const auto gradients = [&](View dx, float b) {
    if (kept.joint_count.data)
      return joint_norm_gradients(p.exec, dx, sums, p.empty_like(sums), kept.joint_count, kept.x,
                                  dy, v, kept.relu, b, *p.options.sum_over_ranks);
    if (!kept.running)
      return batch_norm_gradients(p.exec, dx, dbeta, dgamma, kept.x, dy, gamma, v, kept.relu, b);
    if (kept.parameters) norm_gradient_sums(p.exec, dbeta, dgamma, kept.x, dy, v, kept.relu);
    if (dx.data) running_norm_backward(p.exec, dx, kept.x, dy, v, kept.relu, b);
  };
  if (kept.to_x.wanted())
    p.write_input_gradient(kept.to_x, gradients);
  else if (kept.parameters)
    gradients({}, 0);
  if (kept.parameters) {
    p.write_gradient(kept.norm.beta, [&](View d, float b) { accumulate(p.exec, d, dbeta, b); });
    p.write_gradient(kept.norm.gamma, [&](View d, float b) { accumulate(p.exec, d, dgamma, b); });
  }
  if (kept.to_residual.wanted()) p.give(kept.to_residual, std::move(dy));
}

// Statistics of the batch, into v, and y by them. scratch: (3, C), whose first row then counts the
// elements of a channel where all ranks have a part in the statistics.
void normalize_by_batch(Pass& p, const Tensor& y, const Tensor& x, const NormParams& norm,
                        const NormVectors& v, const NormEpilogue& epilogue, const View& scratch) {
  const View gamma = p.params.master(norm.gamma), beta = p.params.master(norm.beta);
  const auto row = [&](int64_t i) {
    return reshaped(scratch.samples(i, 1), vector_shape(gamma.count()));
  };
  if (p.options.sum_over_ranks != nullptr) {
    joint_norm_statistics(p.exec, v, x, gamma, beta, scratch, norm.epsilon,
                          *p.options.sum_over_ranks);
    apply_norm(p.exec, y, x, v, epilogue);
  } else {
    batch_norm_forward(p.exec, y, v, x, gamma, beta, epilogue, {row(0), row(1), row(2)},
                       norm.epsilon);
  }
  if (p.options.bn != BnMode::kBatchAndUpdate) return;
  const View mean = p.params.statistic(norm.mean), variance = p.params.statistic(norm.variance);
  const float share = p.options.statistics_share > 0 ? p.options.statistics_share : norm.momentum;
  if (p.options.sum_over_ranks != nullptr)
    update_running(p.exec, mean, variance, v, share, row(0));
  else
    update_running(p.exec, mean, variance, v, share, x.shape().pixels());
  p.params.statistics_changed();
}

// relu?(norm(x) (+ residual))
Var norm_op(Pass& p, Var x, const NormParams& layer, bool rectified, const Var* residual) {
  const NormParams norm = layer.of(p.options.norms);
  const bool running = p.options.bn == BnMode::kRunning;
  const View gamma = p.params.master(norm.gamma), beta = p.params.master(norm.beta);
  const int64_t channels = gamma.count();
  require(channels == x.value.shape().c, "batch_norm: '{}' has {} channels, its input has {}",
          p.params.segment(norm.gamma).name, channels, x.value.shape().c);

  if (running && !p.wants_parameter_gradients())
    return running_norm_input_only(p, x, p.params.cache().running(p.exec, p.params, norm),
                                   rectified, residual);

  const bool parameters = p.uses(norm.gamma);
  const GradientTarget to_residual = residual ? GradientTarget(*residual) : GradientTarget();
  const bool recorded =
      p.uses(norm.beta) == parameters && (parameters || x.needs_gradient() || to_residual.wanted());

  Tensor y = p.empty_like(x.value);
  NormEpilogue epilogue{.relu = rectified};
  if (residual) epilogue.residual = residual->value;
  Tensor mask;
  if (recorded && keeps_mask(p, rectified, residual != nullptr))
    epilogue.mask = mask = p.empty(y.shape(), Dtype::kBit, y.layout());

  // From here on x is kept: its own backward needs it, and where there is no mask the sign of the
  // output is computed anew from it.
  const Tensor storage = p.empty(matrix_shape(8, channels), p.params.master_dtype());
  const NormVectors v = norm_vectors(storage, channels);
  const View scratch = storage.view().samples(5, 3);
  if (running) {
    running_norm(p.exec, v, p.params.statistic(norm.mean), p.params.statistic(norm.variance), gamma,
                 beta, norm.epsilon);
    apply_norm(p.exec, y, x.value, v, epilogue);
  } else {
    normalize_by_batch(p, y, x.value, norm, v, epilogue, scratch);
  }
  if (!recorded) return {std::move(y), -1};

  const bool joint = !running && p.options.sum_over_ranks != nullptr;
  const View joint_count = joint ? reshaped(scratch.samples(0, 1), vector_shape(channels)) : View{};
  const KeptNorm kept{norm,    storage, v,           running,    parameters, rectified && !mask,
                      x.value, x,       to_residual, joint_count};
  Var out =
      p.tape.record(std::move(y), [&p, kept](Tensor dy) { backward_norm(p, kept, std::move(dy)); });
  out.gate = {std::move(mask), {}};
  return out;
}

}  // namespace

Var batch_norm(Pass& p, Var x, const NormParams& norm, Activation activation) {
  return norm_op(p, std::move(x), norm, activation == Activation::kRelu, nullptr);
}

Var batch_norm_add_relu(Pass& p, Var x, const NormParams& norm, const Var& residual) {
  return norm_op(p, std::move(x), norm, true, &residual);
}

}  // namespace ringfort
