#include "kernels/conv2d_epilogue.h"

#include "kernels/device_memory.h"
#include "kernels/norm.h"

namespace ringfort {

ProductEpilogue product_epilogue(Exec& exec, View y, const ConvEpilogue& epilogue) {
  const View* residual = epilogue.residual;
  if (residual && residual->data != y.data) copy_view(exec, y, *residual);
  return {epilogue.bias, residual != nullptr, epilogue.relu};
}

void finish_outputs(Exec& exec, View y, const ConvEpilogue& epilogue) {
  if (epilogue.mask) relu_mask(exec, *epilogue.mask, y);
  if (!epilogue.normed) return;
  const NormedOutput& normed = *epilogue.normed;
  if (normed.mask.data != nullptr)
    scale_shift_relu(exec, normed.y, normed.mask, y, normed.scale, normed.shift);
  else
    scale_shift_relu(exec, normed.y, y, normed.scale, normed.shift);
}

void finish_product(Exec& exec, View y, View product, const ConvEpilogue& epilogue) {
  if (epilogue.residual) add(exec, y, product, *epilogue.residual);
  if (epilogue.bias) add_bias(exec, y, *epilogue.bias, epilogue.relu);
  finish_outputs(exec, y, epilogue);
}

void finish_dgrad(Exec& exec, View dx, View product, const DgradEpilogue& epilogue) {
  if (epilogue.gate)
    gate_backward(exec, dx, product, epilogue.gate, epilogue.accumulate ? 1.0f : 0.0f);
  else if (epilogue.accumulate)
    add(exec, dx, dx, product);
}

}  // namespace ringfort
