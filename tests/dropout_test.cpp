// Dropout as an op: off where the pass has no draw; in a training pass its gradient belongs to the
// elements that fell, and two layers lose different ones.
#include <catch2/catch.hpp>

#include "engine/ops/ops.h"
#include "tests/tensors.h"

namespace ringfort::testing {
namespace {

constexpr Shape kShape{2, 4, 4, 16};

struct Outcome {
  Vector y, dx;
};

// The op, or twice of it, on ones.
Outcome run(const DropoutDraw* draw, const std::vector<int>& layers) {
  Exec exec({}, 1);
  Pool pool;
  ParamStore params(Dtype::kFloat64);
  params.allocate();
  PassOptions options{Wrt::kInput, BnMode::kRunning, Dtype::kFloat64};
  options.dropout = draw;
  Pass p(exec, pool, params, options);
  const Vector ones(static_cast<size_t>(kShape.count()), 1);
  const Var x = p.input(tensor_of(pool, kShape, ones));
  Var y = x;
  for (const int layer : layers) y = dropout(p, std::move(y), 0.5, layer);
  Outcome outcome{values_of(y.value), {}};
  p.backward(y, tensor_of(pool, kShape, ones));
  outcome.dx = values_of(p.tape.gradient(x));
  return outcome;
}

}  // namespace

TEST_CASE("Dropout is off without a draw, and linear with one", "[ops]") {
  Pool pool;
  const DropoutDraw draw{{3, Purpose::kDropout, 0},
                         tensor_of(pool, vector_shape(2), {4, 9}, Dtype::kInt64)};
  const Vector ones(static_cast<size_t>(kShape.count()), 1);
  CHECK(run(nullptr, {0}).y == ones);
  CHECK(run(nullptr, {0}).dx == ones);

  const Outcome first = run(&draw, {0}), second = run(&draw, {1}), both = run(&draw, {0, 1});
  CHECK(first.y != second.y);
  for (size_t i = 0; i < ones.size(); ++i) {
    REQUIRE((first.y[i] == 0 || first.y[i] == 2));
    REQUIRE(first.dx[i] == first.y[i]);  // of ones, the output is the derivative
    REQUIRE(both.y[i] == first.y[i] * second.y[i]);
    REQUIRE(both.dx[i] == both.y[i]);
  }
  const DropoutDraw other{draw.key, tensor_of(pool, vector_shape(1), {4}, Dtype::kInt64)};
  CHECK_THROWS_WITH(run(&other, {0}),
                    "dropout: the draw of this pass knows 1 samples, the input has 2");
}

}  // namespace ringfort::testing
