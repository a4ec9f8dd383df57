// Tape: what backward needs, as a flat vector of nodes in execution order. Used once: what a node
// has saved dies as soon as its vector-Jacobian product (VJP) has run. A node knows no other node;
// VJPs write into destinations by node number.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "engine/tensor.h"
#include "kernels/activation.h"

namespace ringfort {

// What a gradient is multiplied by on its way from a value to its node. relu?(scale x + shift)
// under constants has no node: its value carries x's node and this gate, and whoever forms the
// gradient of the value writes it through the gate, in the same kernel where that kernel can.
struct Gate {
  Tensor mask;  // kBit, like the value; none: no activation
  View scale;   // C values, which outlive the pass; without data: 1

  explicit operator bool() const { return static_cast<bool>(view()); }
  GradientGate view() const { return {mask ? mask.view() : View{}, scale}; }
};

// A value in a pass. node < 0: a constant, nothing flows back to it.
struct Var {
  Tensor value;
  int node = -1;
  Gate gate = {};
  // In which the node takes its gradient, where that is not the value's: float32 logits of a
  // bfloat16 pass.
  std::optional<Dtype> gradient = {};

  bool needs_gradient() const { return node >= 0; }
  Dtype gradient_dtype() const { return gradient.value_or(value.dtype()); }
};

// What a VJP keeps of an input it only writes a gradient for: the place, not the elements.
struct GradientTarget {
  int node = -1;
  Shape shape;
  Dtype dtype = Dtype::kFloat32;
  Layout layout = Layout::kChannelsLast;
  Gate gate;

  GradientTarget() = default;
  GradientTarget(const Var& var)  // NOLINT: every op makes its targets from its inputs
      : node(var.node),
        shape(var.value.shape()),
        dtype(var.gradient_dtype()),
        layout(var.value.layout()),
        gate(var.gate) {}
  bool wanted() const { return node >= 0; }
};

// Where a VJP writes: dx <- gate(product) + beta dx.
struct Destination {
  Tensor dx;
  float beta = 0;
};

class Tape {
 public:
  // dy is the gradient of the node's value; the VJP may overwrite it if it is the sole owner.
  using Vjp = std::function<void(Tensor dy)>;

  // A node whose gradient is kept for gradient(): the input of an attack pass.
  Var leaf(Tensor value);
  Var record(Tensor value, Vjp vjp);

  // Called with every value that is recorded, where it is set.
  std::function<void(const Tensor& value)> on_record;

  // The place for a target's gradient: new memory with beta 0 on first use, the sum so far with
  // beta 1 later.
  Destination destination(Exec& exec, Pool& pool, const GradientTarget& target);
  // Hands over a finished gradient, which then goes through the gate: kept as it is on first use,
  // added later.
  void give(Exec& exec, Pool& pool, const GradientTarget& target, Tensor dx);

  // Runs the VJPs from the last node to the first. Nodes that no gradient has reached are skipped.
  void backward();

  // The gradient of a leaf after backward. Errors: none has reached it.
  Tensor gradient(const Var& leaf) const;

 private:
  struct Node {
    Vjp vjp;
    Tensor gradient;
  };
  std::vector<Node> nodes_;
};

}  // namespace ringfort
