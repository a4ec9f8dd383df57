#include "engine/tape.h"

namespace ringfort {

Var Tape::leaf(Tensor value) { return record(std::move(value), nullptr); }

Var Tape::record(Tensor value, Vjp vjp) {
  if (on_record) on_record(value);
  nodes_.push_back({std::move(vjp), {}});
  return {std::move(value), static_cast<int>(nodes_.size()) - 1};
}

Destination Tape::destination(Exec& exec, Pool& pool, const GradientTarget& target) {
  Tensor& gradient = nodes_.at(static_cast<size_t>(target.node)).gradient;
  if (!gradient) {
    gradient = Tensor(pool, target.shape, target.dtype, target.layout);
    return {gradient, 0};
  }
  if (!gradient.is_sole_owner()) {  // handed over by an op that gave the same tensor to two inputs
    Tensor own(pool, target.shape, target.dtype, target.layout);
    convert(exec, own, gradient);
    gradient = own;
  }
  return {gradient, 1};
}

void Tape::give(Exec& exec, Pool& pool, const GradientTarget& target, Tensor dx) {
  Tensor& gradient = nodes_.at(static_cast<size_t>(target.node)).gradient;
  if (!gradient && !target.gate) {
    gradient = std::move(dx);
    return;
  }
  if (!gradient && dx.is_sole_owner()) {
    gradient = std::move(dx);
    gate_backward(exec, gradient, gradient, target.gate.view(), 0);
    return;
  }
  const Destination to = destination(exec, pool, target);
  if (target.gate)
    gate_backward(exec, to.dx, dx, target.gate.view(), to.beta);
  else
    add(exec, to.dx, to.dx, dx);
}

void Tape::backward() {
  for (size_t i = nodes_.size(); i-- > 0;) {
    Node& node = nodes_[i];
    if (!node.vjp) continue;  // a leaf keeps its gradient
    const Vjp vjp = std::move(node.vjp);
    node.vjp = nullptr;
    if (node.gradient) vjp(std::move(node.gradient));
    node.gradient = Tensor();
  }
}

Tensor Tape::gradient(const Var& leaf) const {
  require(
      leaf.node >= 0 && nodes_.at(static_cast<size_t>(leaf.node)).gradient,
      "Tape: no gradient has reached this input; was the pass recorded with Wrt::kInput or kBoth?");
  return nodes_[static_cast<size_t>(leaf.node)].gradient;
}

}  // namespace ringfort
