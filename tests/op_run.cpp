// Runs the cases of op_cases.h: their inputs, and one op as a pass of its own in a dtype.
#include "tests/op_cases.h"

namespace ringfort::testing {

using Kind = OpInput::Kind;

std::vector<Vector> inputs_of(const OpCase& op_case) {
  std::vector<Vector> inputs;
  for (const OpInput& input : op_case.inputs) {
    const int64_t count = input.shape.count();
    if (input.kind != Kind::kDistinct) {
      inputs.push_back(exact_vector(count, 21 + inputs.size()));
      continue;
    }
    Vector& values = inputs.emplace_back();
    // 251 is prime: elements of one window are never a multiple of it apart.
    for (int64_t i = 0; i < count; ++i)
      values.push_back(static_cast<double>(i * 37 % 251 - 125) / 128);
  }
  return inputs;
}

OpRun::OpRun(Exec& exec, const OpCase& op_case, Dtype dtype)
    : exec_(exec),
      case_(op_case),
      dtype_(dtype),
      params_(dtype == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32) {
  LayerBuilder build(params_);
  op_ = op_case.declare(build);
  params_.allocate(dtype == Dtype::kBFloat16);
  randomize(exec, params_, 7);
}

Var OpRun::build(Pass& p, const Build& op, const std::vector<Vector>& inputs,
                 std::vector<Var>& leaves) {
  std::vector<Var> vars;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto& [shape, kind] = case_.inputs[i];
    const bool pixels = kind == Kind::kPixels, matrix = shape.h * shape.w == 1;
    const Dtype dtype = pixels && dtype_ == Dtype::kBFloat16 ? Dtype::kFloat32 : dtype_;
    const Layout layout = pixels || matrix ? Layout::kChannelsLast : conv_layout(p, shape.c);
    vars.push_back(p.input(tensor_of(pool_, shape, inputs[i], dtype, layout)));
    leaves.push_back({Tensor(), vars.back().node});  // the op is the only one to hold the elements
  }
  return op(p, std::move(vars));
}

Vector OpRun::value(const Build& op, BnMode bn, const std::vector<Vector>& inputs) {
  Pass p(exec_, pool_, params_, {Wrt::kNothing, bn, dtype_});
  std::vector<Var> leaves;
  return values_of(build(p, op, inputs, leaves).value);
}

Vector OpRun::forward(BnMode bn, const std::vector<Vector>& inputs) {
  return value(op_.op, bn, inputs);
}

Vector OpRun::before_relu(BnMode bn, const std::vector<Vector>& inputs) {
  return op_.before_relu ? value(op_.before_relu, bn, inputs) : Vector();
}

OpRun::Result OpRun::run(Wrt wrt, BnMode bn, const std::vector<Vector>& inputs, const Vector& dy) {
  Pass p(exec_, pool_, params_, {wrt, bn, dtype_});
  std::vector<Var> leaves;
  Var y = build(p, op_.op, inputs, leaves);
  Result result;
  result.y = values_of(y.value);
  const Shape shape = y.value.shape();
  Tensor gradient = tensor_of(pool_, shape, dy, y.value.dtype(), y.value.layout());
  y.value = Tensor();
  p.backward(y, std::move(gradient));
  for (const Var& leaf : leaves)
    result.dx.push_back(leaf.needs_gradient() ? values_of(p.tape.gradient(leaf)) : Vector());
  for (size_t i = 0; i < params_.segments().size(); ++i)
    result.gradients.push_back(values_of(params_.gradient(static_cast<ParamId>(i))));
  result.gradients_written = p.gradients_written();
  return result;
}

}  // namespace ringfort::testing
