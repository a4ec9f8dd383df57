// Convolutions. The input is kept only where the filter's gradient is asked for: never in an
// attack.
#include "engine/ops/ops.h"
#include "kernels/activation.h"

namespace ringfort {
namespace {

Tensor output_for(Pass& p, const Var& x, const ConvParams& conv) {
  const Shape shape =
      conv2d_shape(x.value.shape(), p.params.segment(conv.weight).shape, conv.options);
  return p.empty(shape, p.options.dtype, conv_layout(p, shape.c));
}

// The two products of a convolution's backward: into the flat gradient and into the input.
void backward_conv(Pass& p, const Filter& filter, const ConvParams& conv,
                   const GradientTarget& to_x, const Tensor& x, const Tensor& dy) {
  if (x)
    p.write_gradient(conv.weight, [&](View dw, float beta) {
      conv2d_wgrad(p.exec, dw, x, dy, conv.options, beta);
    });
  if (!to_x.wanted()) return;
  const Destination to = p.destination(to_x);
  const bool accumulate = to.beta != 0;
  const Tensor part = accumulate ? p.empty_like(to.dx) : Tensor();
  conv2d_dgrad(p.exec, to.dx, dy, filter, conv.options,
               {to_x.gate.view(), accumulate, accumulate ? part.view() : View{}});
}

// y = x * filter (+ residual), on the tape where anybody wants a gradient.
Var record_conv(Pass& p, Tensor y, const Var& x, const ConvParams& conv, const Filter& filter,
                const GradientTarget& to_residual = {}) {
  const bool wgrad = p.uses(conv.weight);
  if (!wgrad && !x.needs_gradient() && !to_residual.wanted()) return {std::move(y), -1};
  return p.tape.record(std::move(y), [&p, conv, filter, to_x = GradientTarget(x), to_residual,
                                      kept = wgrad ? x.value : Tensor()](Tensor dy) {
    backward_conv(p, filter, conv, to_x, kept, dy);
    if (to_residual.wanted()) p.give(to_residual, std::move(dy));
  });
}

// Norms are constants that nobody wants a gradient of.
bool folds_norms(const Pass& p) {
  return p.options.bn == BnMode::kRunning && !p.wants_parameter_gradients();
}

Tensor mask_like(Pass& p, const Tensor& y) { return p.empty(y.shape(), Dtype::kBit, y.layout()); }

}  // namespace

Layout conv_layout(const Pass& p, int64_t channels) {
  return p.options.dtype != Dtype::kFloat64 && channels % 16 == 0 &&
                 p.exec.device().kind == DeviceKind::kCpu && conv2d_prefers_blocks()
             ? Layout::kBlocked16
             : Layout::kChannelsLast;
}

namespace {

// x * w (+ residual), and its normed output where one is asked for.
Var convolve(Pass& p, const Var& x, const ConvParams& conv, Var* residual,
             const NormedOutput* normed) {
  const Filter filter = p.params.cache().filter(p.params, conv.weight, p.options.dtype);
  const GradientTarget to_residual = residual ? GradientTarget(*residual) : GradientTarget();
  const Tensor before = residual ? std::move(residual->value) : Tensor();
  // In place where nobody else needs the residual.
  Tensor y = before && before.is_sole_owner() ? before : output_for(p, x, conv);
  conv2d_forward(p.exec, y, x.value, filter, conv.options,
                 {.residual = before ? &before.view() : nullptr, .normed = normed});
  return record_conv(p, std::move(y), x, conv, filter, to_residual);
}

SumAndNormed convolve_norm_relu(Pass& p, const Var& x, const ConvParams& conv, Var* residual,
                                const NormParams& norm) {
  if (!folds_norms(p)) {
    Var sum = convolve(p, x, conv, residual, nullptr);
    Var normed = batch_norm(p, sum, norm, Activation::kRelu);
    return {std::move(sum), std::move(normed)};
  }
  const NormVectors& v = p.params.cache().running(p.exec, p.params, norm.of(p.options.norms));
  Tensor y = output_for(p, x, conv);
  Tensor mask;
  if (x.needs_gradient() || (residual && residual->needs_gradient())) mask = mask_like(p, y);
  const NormedOutput normed{y, mask ? mask.view() : View{}, v.scale, v.shift};
  Var sum = convolve(p, x, conv, residual, &normed);
  if (!sum.needs_gradient()) return {std::move(sum), {std::move(y), -1}};
  Var activated = p.gated(sum, std::move(y), {std::move(mask), v.scale});
  return {std::move(sum), std::move(activated)};
}

}  // namespace

Var conv2d(Pass& p, Var x, const ConvParams& conv) {
  return convolve(p, x, conv, nullptr, nullptr);
}

Var conv2d_add(Pass& p, Var x, const ConvParams& conv, Var residual) {
  return convolve(p, x, conv, &residual, nullptr);
}

SumAndNormed conv2d_with_norm_relu(Pass& p, Var x, const ConvParams& conv, const NormParams& norm) {
  return convolve_norm_relu(p, x, conv, nullptr, norm);
}

SumAndNormed conv2d_add_norm_relu(Pass& p, Var x, const ConvParams& conv, Var residual,
                                  const NormParams& norm) {
  return convolve_norm_relu(p, x, conv, &residual, norm);
}

Var conv2d_bias(Pass& p, Var x, const ConvParams& conv, Activation activation) {
  Tensor y = output_for(p, x, conv);
  const Filter filter = p.params.cache().filter(p.params, conv.weight, p.options.dtype);
  const View bias = p.params.master(conv.bias);
  const bool rectified = activation == Activation::kRelu;
  const bool wgrad = p.uses(conv.weight);
  const bool recorded = p.uses(conv.bias) == wgrad && (wgrad || x.needs_gradient());
  const Tensor mask = recorded && rectified ? mask_like(p, y) : Tensor();
  conv2d_forward(p.exec, y, x.value, filter, conv.options,
                 {.bias = &bias, .relu = rectified, .mask = mask ? &mask.view() : nullptr});

  if (!recorded) return {std::move(y), -1};
  Var out = p.tape.record(std::move(y), [&p, conv, filter, to_x = GradientTarget(x),
                                         kept = wgrad ? x.value : Tensor()](const Tensor& dy) {
    if (kept)
      p.write_gradient(conv.bias,
                       [&](View db, float beta) { bias_gradient(p.exec, db, dy, beta); });
    backward_conv(p, filter, conv, to_x, kept, dy);
  });
  out.gate = {mask, {}};
  return out;
}

namespace {

// relu?(norm(x * w) (+ residual)) under constants: one convolution with the norm in its filter.
Var convolve_folded(Pass& p, const Var& x, const ConvParams& conv, const NormParams& norm,
                    bool rectified, Var* residual) {
  const WeightCache::Folded folded = p.params.cache().folded(
      p.exec, p.params, conv.weight, norm.of(p.options.norms), p.options.dtype);
  const GradientTarget to_residual = residual ? GradientTarget(*residual) : GradientTarget();
  const Tensor before = residual ? std::move(residual->value) : Tensor();
  // In place where nobody else needs the residual.
  Tensor y = before && before.is_sole_owner() ? before : output_for(p, x, conv);
  const bool recorded = x.needs_gradient() || to_residual.wanted();
  const Tensor mask = rectified && recorded ? mask_like(p, y) : Tensor();
  conv2d_forward(p.exec, y, x.value, folded.filter, conv.options,
                 {.bias = &folded.bias,
                  .residual = before ? &before.view() : nullptr,
                  .relu = rectified,
                  .mask = mask ? &mask.view() : nullptr});

  Var out = record_conv(p, std::move(y), x, conv, folded.filter, to_residual);
  out.gate = {mask, {}};
  return out;
}

}  // namespace

Var conv_norm(Pass& p, Var x, const ConvParams& conv, const NormParams& norm) {
  if (folds_norms(p)) return convolve_folded(p, x, conv, norm, false, nullptr);
  return batch_norm(p, conv2d(p, std::move(x), conv), norm, Activation::kNone);
}

Var conv_norm_relu(Pass& p, Var x, const ConvParams& conv, const NormParams& norm) {
  if (folds_norms(p)) return convolve_folded(p, x, conv, norm, true, nullptr);
  return batch_norm(p, conv2d(p, std::move(x), conv), norm, Activation::kRelu);
}

Var conv_norm_add_relu(Pass& p, Var x, const ConvParams& conv, const NormParams& norm,
                       Var residual) {
  if (folds_norms(p)) return convolve_folded(p, x, conv, norm, true, &residual);
  return batch_norm_add_relu(p, conv2d(p, std::move(x), conv), norm, residual);
}

}  // namespace ringfort
