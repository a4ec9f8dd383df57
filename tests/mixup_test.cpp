// Mixtures of images in training; how they are made: kernels_mixup_test.cpp.
#include <algorithm>
#include <catch2/catch.hpp>

#include "adversarial/attack_steps.h"
#include "adversarial/input.h"
#include "adversarial/training_step.h"
#include "kernels/device_memory.h"
#include "kernels/mixup.h"
#include "kernels/plans.h"
#include "tests/tensors.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;
using testing::bytes_of;

namespace {

// The same images with every label the next class.
AttackInput with_next_labels(Pool& pool, const AttackInput& plain) {
  AttackInput other = plain;
  const int64_t n = plain.x_nat.shape().n;
  other.labels = Tensor(pool, vector_shape(n), Dtype::kInt32);
  for (int64_t i = 0; i < n; ++i)
    other.labels.as<int32_t>()[i] = (plain.labels.as<int32_t>()[i] + 1) % 4;
  return other;
}

// Said to be mixtures with images of the other labels.
AttackInput as_mixture(Exec& exec, Pool& pool, const AttackInput& plain, const AttackInput& other,
                       float share) {
  AttackInput input = plain;
  const int64_t n = plain.x_nat.shape().n;
  input.mixture = empty_mixture(pool, n);
  copy_view(exec, input.mixture.labels, other.labels);
  std::fill_n(input.mixture.share.as<float>(), n, share);
  return input;
}

}  // namespace

TEST_CASE("a mixture is attacked away from the labels of both its parts", "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = make_model(tiny_spec("cnn_small", 4, 8, 1));
  initialize(exec, model->params(), 5);
  const AttackInput plain = random_input(pool, {3, 8, 8, 1}, 4, 1);
  const AttackInput other = with_next_labels(pool, plain);
  const auto mixed = [&](float share) { return as_mixture(exec, pool, plain, other, share); };
  // In L2 every bit of the gradient matters. One object for all: it tells the kinds apart.
  TrainingAttack attack(exec, pool, *model, pgd({.norm = Norm::kL2, .eps = 0.5}, 3, 0.2));
  const auto attacked = [&](const AttackInput& input) { return elements(attack.run(input).x_adv); };
  CHECK(attacked(mixed(1)) == attacked(plain));
  CHECK(attacked(mixed(0)) == attacked(other));
  const auto half = attacked(mixed(0.5));
  CHECK(half != attacked(plain));
  CHECK(half != attacked(other));
}

TEST_CASE("a step learns the labels of both parts of a mixture", "[step]") {
  for (const char* name : {"standard", "pgd-at", "trades"}) {
    INFO(name);
    Recipe recipe;
    recipe.method = name;
    recipe.eps = 0.1;
    recipe.attack_steps = 2;
    // The attack's objective has its own test: here it goes nowhere.
    recipe.attack_alpha = 1e-30;
    const auto learnt = [&](bool mixed, float share) {
      Exec exec({}, 1);
      exec.plans().force("direct");
      Pool pool;
      const auto model = make_model(tiny_spec("cnn_small", 4, 8, 1));
      initialize(exec, model->params(), 5);
      const AttackInput plain = random_input(pool, {6, 8, 8, 1}, 4, 1),
                        other = with_next_labels(pool, plain);
      TrainingStep step(exec, *model, make_method(recipe), {}, Dtype::kFloat32, 1);
      step.run(mixed        ? as_mixture(exec, pool, plain, other, share)
               : share == 1 ? plain
                            : other,
               {{.lr = 0.5}});
      return bytes_of(model->params().flat_master());
    };
    CHECK(learnt(true, 1) == learnt(false, 1));
    CHECK(learnt(true, 0) == learnt(false, 0));
    CHECK(learnt(true, 0.5) != learnt(false, 0));
    CHECK(learnt(true, 0.5) != learnt(false, 1));
  }
}

TEST_CASE("a batch is mixed by a stream of random numbers of its own, other in every epoch",
          "[step]") {
  Exec exec({}, 1);
  Pool pool;
  AttackInput input = random_input(pool, {5, 4, 4, 1}, 4, 1);
  input.epoch = 7;
  const auto before = elements(input.x_nat);
  const AttackInput mixed = mixed_up(exec, pool, input, 1.4, 3);
  CHECK(elements(input.x_nat) == before);
  CHECK(mixed.epoch == 7);
  CHECK(bytes_of(mixed.labels) == bytes_of(input.labels));
  CHECK(bytes_of(mixed.samples) == bytes_of(input.samples));
  const auto expected = [&](const RandomKey& key) {
    const Mixture mixture = empty_mixture(pool, 5);
    const Tensor x(pool, input.x_nat.shape(), Dtype::kFloat32);
    mix_up(exec, x, mixture.views(), input.x_nat, input.labels, input.samples, 1.4, key);
    CHECK(bytes_of(mixture.labels) == bytes_of(mixed.mixture.labels));
    return std::pair{elements(x), elements(mixture.share)};
  };
  const std::pair found{elements(mixed.x_nat), elements(mixed.mixture.share)};
  CHECK(found == expected({3, Purpose::kMixup, 7}));
  CHECK(found != expected({3, Purpose::kMixup, 8}));
  CHECK(found != expected({4, Purpose::kMixup, 7}));
  CHECK(found != expected({3, Purpose::kAugment, 7}));
}
