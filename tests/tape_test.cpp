// The tape by itself, with VJPs made for the test: order, where gradients go, what is shared and
// what is written over, and when saved tensors die.
#include "engine/tape.h"

#include <catch2/catch.hpp>

#include "tests/tensors.h"

namespace ringfort::testing {
namespace {

const Shape kShape = vector_shape(4);

struct Fixture {
  Exec exec{{}, 1};
  Pool pool;
  Tape tape;

  Tensor vector(const Vector& values) { return tensor_of(pool, kShape, values); }
  Var leaf() { return tape.leaf(vector({1, 2, 3, 4})); }
  // A node that scales the gradient by `factor` on its way to `x`.
  Var scaled(const Var& x, double factor, std::vector<int>* order = nullptr) {
    const int node = x.node;
    return tape.record(x.value, [=, this, to_x = GradientTarget(x)](const Tensor& dy) {
      if (order) order->push_back(node);
      Vector values = values_of(dy);
      for (double& value : values) value *= factor;
      tape.give(exec, pool, to_x, vector(values));
    });
  }
};

}  // namespace

TEST_CASE("VJPs run from the last node to the first, each once", "[tape]") {
  Fixture f;
  std::vector<int> order;
  const Var x = f.leaf();
  const Var a = f.scaled(x, 2, &order), b = f.scaled(a, 3, &order), c = f.scaled(b, 5, &order);
  f.tape.give(f.exec, f.pool, c, f.vector({1, -1, 0.5, 0}));
  f.tape.backward();
  CHECK(order == std::vector<int>{2, 1, 0});
  CHECK(values_of(f.tape.gradient(x)) == Vector{30, -30, 15, 0});
  f.tape.backward();  // nothing is left to run
  CHECK(order.size() == 3);
}

TEST_CASE("Nodes that no gradient has reached are skipped", "[tape]") {
  Fixture f;
  std::vector<int> order;
  const Var x = f.leaf(), y = f.leaf();
  const Var a = f.scaled(x, 2, &order);
  f.scaled(y, 3, &order);
  f.tape.give(f.exec, f.pool, a, f.vector({1, 1, 1, 1}));
  f.tape.backward();
  CHECK(order == std::vector<int>{x.node});
  CHECK_THROWS_WITH(f.tape.gradient(y), Catch::Contains("no gradient has reached"));
  CHECK_THROWS_WITH(f.tape.gradient(Var{y.value, -1}), Catch::Contains("no gradient has reached"));
}

TEST_CASE("A destination is new memory first, and the sum so far later", "[tape]") {
  Fixture f;
  const Var x = f.leaf();
  const Destination first = f.tape.destination(f.exec, f.pool, x);
  CHECK(first.beta == 0);
  assign(first.dx, {1, 2, 3, 4});
  void* const memory = first.dx.view().data;
  {
    const Destination moved_on = f.tape.destination(f.exec, f.pool, x);
    CHECK(moved_on.beta == 1);
    CHECK(values_of(moved_on.dx) == Vector{1, 2, 3, 4});
  }
  f.tape.give(f.exec, f.pool, x, f.vector({10, 10, 10, 10}));
  CHECK(values_of(f.tape.gradient(x)) == Vector{11, 12, 13, 14});
  CHECK(values_of(first.dx) == Vector{1, 2, 3, 4});  // held here: not written over
  CHECK(f.tape.gradient(x).view().data != memory);
}

TEST_CASE("A destination that nobody else holds is added to in place", "[tape]") {
  Fixture f;
  const Var x = f.leaf();
  void* memory = nullptr;
  {
    const Destination first = f.tape.destination(f.exec, f.pool, x);
    assign(first.dx, {1, 2, 3, 4});
    memory = first.dx.view().data;
  }
  const Destination later = f.tape.destination(f.exec, f.pool, x);
  CHECK(later.beta == 1);
  CHECK(later.dx.view().data == memory);
}

TEST_CASE("One gradient given to two inputs is shared until one of them adds to it", "[tape]") {
  Fixture f;
  const Var x = f.leaf(), y = f.leaf();
  const Tensor dy = f.vector({1, 2, 3, 4});
  f.tape.give(f.exec, f.pool, x, dy);
  f.tape.give(f.exec, f.pool, y, dy);
  CHECK(f.tape.gradient(x).view().data == dy.view().data);  // no copy yet
  f.tape.give(f.exec, f.pool, x, f.vector({1, 1, 1, 1}));
  CHECK(values_of(f.tape.gradient(x)) == Vector{2, 3, 4, 5});
  CHECK(values_of(f.tape.gradient(y)) == Vector{1, 2, 3, 4});
  f.tape.give(f.exec, f.pool, y, dy);  // the same tensor twice to one input
  CHECK(values_of(f.tape.gradient(y)) == Vector{2, 4, 6, 8});
  CHECK(values_of(dy) == Vector{1, 2, 3, 4});
}

TEST_CASE("A gradient goes through the gate of its target, once for each use", "[tape]") {
  Fixture f;
  const Var x = f.leaf();
  const Tensor scale = f.vector({2, 3, 5, 7});
  Var y = x;  // as if y were scale x where the mask is set
  const Tensor mask(f.pool, kShape, Dtype::kBit);
  relu_mask(f.exec, mask, f.vector({1, 0, 1, 1}));
  y.gate = {mask, scale};
  const Tensor shared = f.vector({1, 1, 1, 1});
  f.tape.give(f.exec, f.pool, y, shared);  // new memory: somebody else holds it
  CHECK(values_of(f.tape.gradient(x)) == Vector{2, 0, 5, 7});
  CHECK(values_of(shared) == Vector{1, 1, 1, 1});
  f.tape.give(f.exec, f.pool, y, f.vector({1, 1, 0, -1}));  // added
  CHECK(values_of(f.tape.gradient(x)) == Vector{4, 0, 5, 0});
  f.tape.give(f.exec, f.pool, x, f.vector({1, 1, 1, 1}));  // beside the gate
  CHECK(values_of(f.tape.gradient(x)) == Vector{5, 1, 6, 1});

  const Var other = f.leaf();
  Var z = other;
  z.gate = {Tensor(), scale};
  Tensor own = f.vector({1, 2, 3, 4});
  const void* const memory = own.view().data;
  f.tape.give(f.exec, f.pool, z, std::move(own));
  CHECK(values_of(f.tape.gradient(other)) == Vector{2, 6, 15, 28});
  CHECK(f.tape.gradient(other).view().data == memory);  // in place
}

TEST_CASE("A VJP is the sole owner of its gradient and may overwrite it", "[tape]") {
  Fixture f;
  const Var x = f.leaf();
  bool sole = false;
  const Var y = f.tape.record(x.value, [&](const Tensor& dy) { sole = dy.is_sole_owner(); });
  f.tape.give(f.exec, f.pool, y, f.vector({1, 1, 1, 1}));
  f.tape.backward();
  CHECK(sole);
}

TEST_CASE("What a node has saved dies when its VJP has run", "[tape]") {
  Fixture f;
  const Var x = f.leaf();
  std::vector<int64_t> in_use;
  Var y = x;
  for (int i = 0; i < 3; ++i)
    y = f.tape.record(y.value, [&f, &in_use, to_x = GradientTarget(y),
                                saved = f.vector({0, 0, 0, 0})](Tensor dy) {
      in_use.push_back(f.pool.bytes_in_use());
      f.tape.give(f.exec, f.pool, to_x, std::move(dy));
    });
  f.tape.give(f.exec, f.pool, y, f.vector({1, 1, 1, 1}));
  f.tape.backward();
  // x, the gradient, and 3, 2, 1 saved tensors of 64 bytes (32, rounded up to a cache line)
  CHECK(in_use == std::vector<int64_t>{5 * 64, 4 * 64, 3 * 64});
  CHECK(f.pool.bytes_in_use() == 2 * 64);
}

}  // namespace ringfort::testing
