// Pooling ops.
#include "engine/ops/ops.h"
#include "kernels/pool.h"

namespace ringfort {
namespace {

// Pooling kernels overwrite; where another branch came first, their product is added.
template <class Write>
void give_pooled(Pass& p, const GradientTarget& to_x, Write&& write) {
  Tensor dx = p.empty(to_x.shape, to_x.dtype, to_x.layout);
  write(dx);
  p.give(to_x, std::move(dx));
}

}  // namespace

Var avg_pool(Pass& p, Var x, PoolWindow window) {
  Tensor y = p.empty(pool_shape(x.value.shape(), window), x.value.dtype(), x.value.layout());
  avg_pool_forward(p.exec, y, x.value, window);
  if (!x.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(std::move(y), [&p, window, to_x = GradientTarget(x)](const Tensor& dy) {
    give_pooled(p, to_x, [&](const Tensor& dx) { avg_pool_backward(p.exec, dx, dy, window); });
  });
}

Var max_pool(Pass& p, Var x, PoolWindow window) {
  Tensor y = p.empty(pool_shape(x.value.shape(), window), x.value.dtype(), x.value.layout());
  const Tensor argmax = p.empty(y.shape(), Dtype::kUint8, y.layout());
  max_pool_forward(p.exec, y, argmax, x.value, window);
  if (!x.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(
      std::move(y), [&p, window, argmax, to_x = GradientTarget(x)](const Tensor& dy) {
        give_pooled(p, to_x,
                    [&](const Tensor& dx) { max_pool_backward(p.exec, dx, dy, argmax, window); });
      });
}

Var global_avg_pool(Pass& p, Var x) {
  const Shape shape = x.value.shape();
  // One pixel: blocks and channels last are the same order.
  Tensor y = p.empty(matrix_shape(shape.n, shape.c), x.value.dtype());
  global_avg_pool_forward(p.exec, y, x.value);
  if (!x.needs_gradient()) return {std::move(y), -1};
  return p.tape.record(std::move(y), [&p, to_x = GradientTarget(x)](const Tensor& dy) {
    const Destination to = p.destination(to_x);
    global_avg_pool_backward(p.exec, to.dx, dy, to_x.gate.view(), to.beta);
  });
}

}  // namespace ringfort
