// The table of ops: one row per op and setting, from which come gradient checks in float64 and the
// comparison of float32 and bfloat16 with float64 (ops_test.cpp). A new op needs a row here and no
// test of its own.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/layers.h"
#include "tests/tensors.h"

namespace ringfort::testing {

struct OpInput {
  enum class Kind {
    kFeatures,  // activations, in the dtype and layout of the pass
    kDistinct,  // the same, no two within a pooling window closer than 1/128
    kPixels,    // channels last and never bfloat16: what a model is fed with
  };
  Shape shape;
  Kind kind = Kind::kFeatures;
};

using Build = std::function<Var(Pass&, std::vector<Var>)>;

struct Op {
  Build op;
  // Where the op ends in a ReLU: the same without it. Gradients are not compared where this is
  // close to 0.
  Build before_relu;
};

struct OpCase {
  std::string name;
  std::vector<OpInput> inputs;
  bool has_norm = false;  // the batch-norm modes make a difference
  // Declares the parameters and returns the op that uses them.
  std::function<Op(LayerBuilder&)> declare;
};

// Each op with few channels (channels last) and, where channels matter, with multiples of 16 (in
// blocks where the pass wants them).
const std::vector<OpCase>& op_cases();

// One row of the table set up in one dtype, with random parameters.
class OpRun {
 public:
  OpRun(Exec& exec, const OpCase& op_case, Dtype dtype);

  struct Result {
    Vector y;
    std::vector<Vector> dx;         // one per input; empty where it was not asked for
    std::vector<Vector> gradients;  // one per parameter in order of use: the whole flat gradient
    int64_t gradients_written = 0;
  };
  // The op's value at `inputs`, no gradients.
  Vector forward(BnMode bn, const std::vector<Vector>& inputs);
  Vector before_relu(BnMode bn, const std::vector<Vector>& inputs);  // empty where it has none
  // Forward and, from dy, backward.
  Result run(Wrt wrt, BnMode bn, const std::vector<Vector>& inputs, const Vector& dy);

  ParamStore& params() { return params_; }

 private:
  Var build(Pass& p, const Build& op, const std::vector<Vector>& inputs, std::vector<Var>& leaves);
  Vector value(const Build& op, BnMode bn, const std::vector<Vector>& inputs);

  Exec& exec_;
  const OpCase& case_;
  Dtype dtype_;
  Pool pool_;
  ParamStore params_;
  Op op_;
};

// Deterministic inputs of a case.
std::vector<Vector> inputs_of(const OpCase& op_case);

}  // namespace ringfort::testing
