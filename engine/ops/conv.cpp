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
  if (to.beta == 0) {
    conv2d_dgrad(p.exec, to.dx, dy, filter, conv.options);
    return;
  }
  const Tensor part = p.empty_like(to.dx);
  conv2d_dgrad(p.exec, part, dy, filter, conv.options);
  add(p.exec, to.dx, to.dx, part);
}

}  // namespace

Layout conv_layout(const Pass& p, int64_t channels) {
  return p.options.dtype != Dtype::kFloat64 && channels % 16 == 0 &&
                 p.exec.device().kind == DeviceKind::kCpu
             ? Layout::kBlocked16
             : Layout::kChannelsLast;
}

Var conv2d(Pass& p, Var x, const ConvParams& conv) {
  Tensor y = output_for(p, x, conv);
  const Filter filter = p.params.cache().filter(p.params, conv.weight, p.options.dtype);
  conv2d_forward(p.exec, y, x.value, filter, conv.options);

  const bool wgrad = p.uses(conv.weight);
  if (!wgrad && !x.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(
      std::move(y), [&p, conv, filter, to_x = GradientTarget(x), kept = wgrad ? x.value : Tensor()](
                        const Tensor& dy) { backward_conv(p, filter, conv, to_x, kept, dy); });
}

Var conv2d_add(Pass& p, Var x, const ConvParams& conv, Var residual) {
  const Filter filter = p.params.cache().filter(p.params, conv.weight, p.options.dtype);
  const GradientTarget to_residual(residual);
  Tensor y =
      p.writable(std::move(residual.value));  // in place where nobody else needs the residual
  conv2d_forward(p.exec, y, x.value, filter, conv.options, {.accumulate = true});

  const bool wgrad = p.uses(conv.weight);
  if (!wgrad && !x.needs_gradient() && !to_residual.wanted()) return {std::move(y), -1};
  return p.tape.record(std::move(y), [&p, conv, filter, to_x = GradientTarget(x), to_residual,
                                      kept = wgrad ? x.value : Tensor()](Tensor dy) {
    backward_conv(p, filter, conv, to_x, kept, dy);
    if (to_residual.wanted()) p.give(to_residual, std::move(dy));
  });
}

Var conv2d_bias(Pass& p, Var x, const ConvParams& conv, Activation activation) {
  Tensor y = output_for(p, x, conv);
  const Filter filter = p.params.cache().filter(p.params, conv.weight, p.options.dtype);
  const View bias = p.params.master(conv.bias);
  const bool rectified = activation == Activation::kRelu;
  conv2d_forward(p.exec, y, x.value, filter, conv.options, {.bias = &bias, .relu = rectified});

  const bool wgrad = p.uses(conv.weight);
  if (p.uses(conv.bias) != wgrad || (!wgrad && !x.needs_gradient())) return {std::move(y), -1};
  Tensor mask;
  if (rectified) {
    mask = p.empty(y.shape(), Dtype::kBit, y.layout());
    relu_mask(p.exec, mask, y);
  }
  return p.tape.record(std::move(y), [&p, conv, filter, mask, to_x = GradientTarget(x),
                                      kept = wgrad ? x.value : Tensor()](Tensor dy) {
    if (mask) {
      dy = p.writable(std::move(dy));
      relu_backward(p.exec, dy, dy, mask, 0);
    }
    if (kept)
      p.write_gradient(conv.bias,
                       [&](View db, float beta) { bias_gradient(p.exec, db, dy, beta); });
    backward_conv(p, filter, conv, to_x, kept, dy);
  });
}

Var conv_norm_relu(Pass& p, Var x, const ConvParams& conv, const NormParams& norm) {
  if (p.options.bn != BnMode::kRunning || p.wants_parameter_gradients())
    return batch_norm(p, conv2d(p, std::move(x), conv), norm, Activation::kRelu);

  Tensor y = output_for(p, x, conv);
  const WeightCache::Folded folded =
      p.params.cache().folded(p.exec, p.params, conv.weight, norm, p.options.dtype);
  conv2d_forward(p.exec, y, x.value, folded.filter, conv.options,
                 {.bias = &folded.bias, .relu = true});

  if (!x.needs_gradient()) return {std::move(y), -1};
  Tensor mask = p.empty(y.shape(), Dtype::kBit, y.layout());
  relu_mask(p.exec, mask, y);
  return p.tape.record(
      std::move(y), [&p, conv, filter = folded.filter, mask, to_x = GradientTarget(x)](Tensor dy) {
        dy = p.writable(std::move(dy));
        relu_backward(p.exec, dy, dy, mask, 0);
        backward_conv(p, filter, conv, to_x, Tensor(), dy);
      });
}

}  // namespace ringfort
