// Group norm: the same in every pass, as it knows no batch and keeps no running statistics.
#include "kernels/group_norm.h"

#include "engine/ops/ops.h"
#include "kernels/activation.h"

namespace ringfort {

Var group_norm(Pass& p, Var x, const GroupNormParams& norm) {
  const View gamma = p.params.master(norm.gamma), beta = p.params.master(norm.beta);
  require(gamma.count() == x.value.shape().c, "group_norm: '{}' has {} channels, its input has {}",
          p.params.segment(norm.gamma).name, gamma.count(), x.value.shape().c);
  Tensor y = p.empty_like(x.value);
  const Tensor statistics =
      p.empty(matrix_shape(x.value.shape().n, 2 * norm.groups), p.params.master_dtype());
  group_norm_statistics(p.exec, statistics, x.value, norm.epsilon);
  group_norm_apply(p.exec, y, x.value, statistics, gamma, beta);

  const bool parameters = p.uses(norm.gamma);
  if (p.uses(norm.beta) != parameters || (!parameters && !x.needs_gradient()))
    return {std::move(y), -1};
  return p.tape.record(std::move(y), [&p, norm, gamma, statistics, parameters, kept = x.value,
                                      to_x = GradientTarget(x)](const Tensor& dy) {
    if (parameters) {
      p.write_gradient(norm.beta, [&](View d, float b) { bias_gradient(p.exec, d, dy, b); });
      p.write_gradient(norm.gamma, [&](View d, float b) {
        group_norm_scale_gradient(p.exec, d, kept, dy, statistics, b);
      });
    }
    if (!to_x.wanted()) return;
    const Tensor scratch = p.empty_like(statistics);
    p.write_input_gradient(to_x, [&](View dx, float b) {
      group_norm_backward(p.exec, dx, scratch, kept, dy, statistics, gamma, b);
    });
  });
}

}  // namespace ringfort
