// Mixtures of images in training; how they are made: kernels_mixup_test.cpp.
#include <algorithm>
#include <catch2/catch.hpp>

#include "adversarial/attack_steps.h"
#include "kernels/device_memory.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;

TEST_CASE("a mixture is attacked away from the labels of both its parts", "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = make_model(tiny_spec("cnn_small", 4, 8, 1));
  initialize(exec, model->params(), 5);
  const AttackInput plain = random_input(pool, {3, 8, 8, 1}, 4, 1);
  AttackInput other = plain;
  other.labels = Tensor(pool, vector_shape(3), Dtype::kInt32);
  for (int n = 0; n < 3; ++n)
    other.labels.as<int32_t>()[n] = (plain.labels.as<int32_t>()[n] + 1) % 4;
  const auto mixed = [&](float share) {
    AttackInput input = plain;
    input.mixture = empty_mixture(pool, 3);
    copy_view(exec, input.mixture.labels, other.labels);
    std::fill_n(input.mixture.share.as<float>(), 3, share);
    return input;
  };
  // In L2 every bit of the gradient matters. One object for all: it tells the kinds apart.
  TrainingAttack attack(exec, pool, *model, pgd({.norm = Norm::kL2, .eps = 0.5}, 3, 0.2));
  const auto attacked = [&](const AttackInput& input) { return elements(attack.run(input).x_adv); };
  CHECK(attacked(mixed(1)) == attacked(plain));
  CHECK(attacked(mixed(0)) == attacked(other));
  const auto half = attacked(mixed(0.5));
  CHECK(half != attacked(plain));
  CHECK(half != attacked(other));
}
