// Activations, addition, dropout, input normalisation, flattening.
#include "engine/ops/ops.h"
#include "kernels/activation.h"
#include "kernels/dropout.h"

namespace ringfort {

Var relu(Pass& p, Var x) {
  Tensor y = p.empty_like(x.value);
  const Tensor mask = p.empty(y.shape(), Dtype::kBit, y.layout());
  relu(p.exec, y, mask, x.value);
  if (!x.needs_gradient()) return {std::move(y), -1};
  return p.gated(x, std::move(y), {mask, {}});
}

Var leaky_relu(Pass& p, Var x, double slope) {
  require(slope > 0 && slope < 1, "leaky_relu: the slope must be in (0, 1), got {}", slope);
  Tensor y = p.empty_like(x.value);
  const Tensor mask = p.empty(y.shape(), Dtype::kBit, y.layout());
  leaky_relu(p.exec, y, mask, x.value, slope);
  if (!x.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(std::move(y), [&p, slope, mask, to_x = GradientTarget(x)](const Tensor& dy) {
    p.write_input_gradient(
        to_x, [&](View dx, float beta) { leaky_relu_backward(p.exec, dx, dy, mask, slope, beta); });
  });
}

Var silu(Pass& p, Var x) {
  Tensor y = p.empty_like(x.value);
  silu(p.exec, y, x.value);
  if (!x.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(
      std::move(y), [&p, to_x = GradientTarget(x), kept = x.value](const Tensor& dy) {
        p.write_input_gradient(
            to_x, [&](View dx, float beta) { silu_backward(p.exec, dx, dy, kept, beta); });
      });
}

Var softplus(Pass& p, Var x, double sharpness) {
  require(sharpness > 0, "softplus: the sharpness must be positive, got {}", sharpness);
  Tensor y = p.empty_like(x.value);
  softplus(p.exec, y, x.value, sharpness);
  if (!x.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(std::move(y),
                       [&p, sharpness, to_x = GradientTarget(x), kept = x.value](const Tensor& dy) {
                         p.write_input_gradient(to_x, [&](View dx, float beta) {
                           softplus_backward(p.exec, dx, dy, kept, sharpness, beta);
                         });
                       });
}

Var add(Pass& p, Var a, Var b) {
  Tensor y = p.empty_like(a.value);
  add(p.exec, y, a.value, b.value);
  if (!a.needs_gradient() && !b.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(std::move(y),
                       [&p, to_a = GradientTarget(a), to_b = GradientTarget(b)](const Tensor& dy) {
                         if (to_a.wanted()) p.give(to_a, dy);
                         if (to_b.wanted()) p.give(to_b, dy);
                       });
}

Var dropout(Pass& p, Var x, double rate, int layer) {
  require(rate >= 0 && rate < 1, "dropout: the rate must be in [0, 1), got {}", rate);
  if (!p.options.dropout || rate == 0) return x;
  const Tensor samples = p.options.dropout->samples;
  require(samples && samples.view().count() == x.value.shape().n,
          "dropout: the draw of this pass knows {} samples, the input has {}",
          samples ? samples.view().count() : 0, x.value.shape().n);
  RandomKey key = p.options.dropout->key;
  key.seed ^= (static_cast<uint64_t>(layer) + 1) * 0x9E3779B97F4A7C15u;
  Tensor y = p.empty_like(x.value);
  dropout(p.exec, y, x.value, rate, key, samples.as<const int64_t>(), 0);
  if (!x.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(std::move(y),
                       [&p, rate, key, samples, to_x = GradientTarget(x)](const Tensor& dy) {
                         p.write_input_gradient(to_x, [&](View dx, float beta) {
                           dropout(p.exec, dx, dy, rate, key, samples.as<const int64_t>(), beta);
                         });
                       });
}

Var normalize(Pass& p, Var x, const Tensor& scale, const Tensor& shift) {
  Tensor y = p.empty(x.value.shape(), p.options.dtype);
  scale_shift(p.exec, y, x.value, scale, shift);
  if (!x.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(std::move(y), [&p, scale, to_x = GradientTarget(x)](const Tensor& dy) {
    p.write_input_gradient(
        to_x, [&](View dx, float beta) { scale_backward(p.exec, dx, dy, scale, beta); });
  });
}

Var flatten(Pass& p, Var x) {
  const Shape shape = x.value.shape(), flat = matrix_shape(shape.n, shape.per_sample());
  Tensor y = x.value;
  if (x.value.layout() != Layout::kChannelsLast && shape.h * shape.w > 1) {
    y = p.empty(shape, x.value.dtype());
    reorder(p.exec, y, x.value);
  }
  y = y.reshaped(flat);
  if (!x.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(std::move(y), [&p, to_x = GradientTarget(x)](const Tensor& dy) {
    Tensor dx = p.empty(to_x.shape, to_x.dtype, to_x.layout);
    reorder(p.exec, dx, dy.reshaped(to_x.shape));
    p.give(to_x, std::move(dx));
  });
}

}  // namespace ringfort
