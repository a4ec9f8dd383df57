// The fully connected layer.
#include "engine/ops/ops.h"
#include "kernels/activation.h"
#include "kernels/gemm.h"

namespace ringfort {
namespace {

// (out, H, W, C) of a flattened image is (out, 1, 1, H W C).
View as_matrix(const View& w) { return reshaped(w, matrix_shape(w.shape.n, w.shape.per_sample())); }

}  // namespace

Var linear(Pass& p, Var x, const LinearParams& layer, Activation activation, Dtype out) {
  const View w = as_matrix(p.params.compute(layer.weight, p.options.dtype));
  const View bias = p.params.master(layer.bias);
  const bool rectified = activation == Activation::kRelu;
  Tensor y = p.empty(matrix_shape(x.value.shape().n, w.shape.n), out);
  gemm(p.exec, y, x.value, w, {.transpose_b = true, .bias = &bias, .relu = rectified});

  const bool wgrad = p.uses(layer.weight);
  if (p.uses(layer.bias) != wgrad || (!wgrad && !x.needs_gradient())) return {std::move(y), -1};
  Tensor mask;
  if (rectified) {
    mask = p.empty(y.shape(), Dtype::kBit);
    relu_mask(p.exec, mask, y);
  }
  Var result = p.tape.record(std::move(y), [&p, layer, w, to_x = GradientTarget(x),
                                            kept = wgrad ? x.value : Tensor()](Tensor dy) {
    if (kept)
      p.write_gradient(layer.bias,
                       [&](View db, float beta) { bias_gradient(p.exec, db, dy, beta); });
    if (dy.dtype() != w.dtype) {  // of float32 logits, for the bias
      const Tensor rounded = p.empty(dy.shape(), w.dtype);
      convert(p.exec, rounded, dy);
      dy = rounded;
    }
    if (kept)
      p.write_gradient(layer.weight, [&](View dw, float beta) {
        gemm(p.exec, as_matrix(dw), dy, kept, {.transpose_a = true, .beta = beta});
      });
    if (to_x.wanted())
      p.write_input_gradient(to_x,
                             [&](View dx, float beta) { gemm(p.exec, dx, dy, w, {.beta = beta}); });
  });
  result.gate = {mask, {}};
  if (!wgrad)
    result.gradient = w.dtype;  // a bias takes its share of a gradient that is not rounded
  return result;
}

}  // namespace ringfort
