// Methods: what a recipe makes of the training attack, the attack on held-out images and the
// augmentation.
#include "adversarial/method.h"

#include <array>
#include <catch2/catch.hpp>

#include "adversarial/input.h"
#include "tests/temp_folder.h"

using namespace ringfort;
using namespace ringfort::test;

TEST_CASE("method presets carry their sources' defaults", "[trainer]") {
  Recipe recipe;
  recipe.eps = 8.0 / 255;
  recipe.method = "fast-at";
  TrainingMethod method = make_method(recipe);
  REQUIRE(method.inner);
  CHECK(method.inner->steps == 1);
  CHECK(method.inner->alpha == Approx(10.0 / 255));
  CHECK(method.inner->bn == AttackBn::kTrainTrack);
  CHECK(method.inner->start == AttackStart::kRandom);
  recipe.method = "pgd-at";
  method = make_method(recipe);
  CHECK(method.inner->steps == 10);
  CHECK(method.inner->alpha == Approx(2.0 / 255));
  CHECK(method.inner->bn == AttackBn::kEval);
  recipe.attack_bn = "train";
  CHECK(make_method(recipe).inner->bn == AttackBn::kTrain);
  const Recipe full = resolved(recipe);
  CHECK(full.attack_alpha == Approx(2.0 / 255));
  CHECK(full.attack_steps == 10);
  CHECK(full.width == 16);
  CHECK(full.attack_dtype == "float32");
  recipe.method = "standard";
  CHECK_FALSE(make_method(recipe).inner);
  recipe.method = "trades";
  recipe.eps = 0.031;
  recipe.beta = 5;
  recipe.label_smoothing = 0.1;
  recipe.awp_gamma = 0.005;
  recipe.attack_bn = "default";
  method = make_method(recipe);
  CHECK(method.inner->steps == 10);
  CHECK(method.inner->alpha == Approx(0.007));
  CHECK(method.inner->bn == AttackBn::kEval);
  CHECK(method.inner->start == AttackStart::kNearby);
  CHECK(method.inner->objective == AttackObjective::kDivergence);
  CHECK(method.outer.kind == OuterLossKind::kTrades);
  CHECK(method.outer.beta == 5);
  CHECK(method.outer.label_smoothing == 0.1);
  CHECK(method.weight_perturbation == 0.005);
  recipe.norm = "L2";
  CHECK(make_method(recipe).inner->start == AttackStart::kRandom);
  CHECK(resolved(recipe).natural_weight == -1);  // it has none
  recipe.method = "mart";
  CHECK(error_of([&] {
          make_method(recipe);
        }).find("known are standard, pgd-at, fast-at, trades, dat, dat-fgsm") != std::string::npos);
}

TEST_CASE("DAT's presets carry what its code does", "[trainer]") {
  Recipe recipe;
  recipe.method = "dat";
  recipe.label_smoothing = 0.1;
  recipe.awp_gamma = 0.01;
  TrainingMethod method = make_method(recipe);
  CHECK(method.inner->steps == 10);
  CHECK(method.inner->bn == AttackBn::kEval);
  CHECK(method.inner->start == AttackStart::kRandom);
  CHECK(method.inner->objective == AttackObjective::kCrossEntropy);
  CHECK(method.outer.kind == OuterLossKind::kCrossEntropy);
  CHECK(method.outer.natural_weight == 1);
  CHECK(method.outer.label_smoothing == 0.1);
  CHECK(method.weight_perturbation == 0.01);
  CHECK(resolved(recipe).natural_weight == 1);
  // Its CIFAR-10 and its ImageNet; then balls that its step of 2/255 does not cross.
  const auto alpha = [&](double eps, int steps) {
    recipe.eps = eps / 255;
    recipe.attack_steps = steps;
    return 255 * make_method(recipe).inner->alpha;
  };
  CHECK(alpha(8, 10) == Approx(2));
  CHECK(alpha(2, 4) == Approx(2));
  CHECK(alpha(4, 4) == Approx(2.5));
  CHECK(alpha(76.5, 10) == Approx(2.5 * 7.65));
  recipe.norm = "L2";
  CHECK(alpha(2, 4) == Approx(1.25));

  recipe = {};
  recipe.method = "dat-fgsm";
  method = make_method(recipe);
  CHECK(method.inner->steps == 1);
  CHECK(method.inner->alpha == Approx(10.0 / 255));
  CHECK(method.inner->bn == AttackBn::kTrainTrack);
  CHECK(method.outer.natural_weight == 0);
  recipe.natural_weight = 0.25;
  CHECK(make_method(recipe).outer.natural_weight == 0.25);
  CHECK(resolved(recipe).natural_weight == 0.25);
}

TEST_CASE("the recipe's seed and epoch reach every random choice", "[trainer]") {
  Recipe recipe;
  recipe.seed = 77;
  for (const char* method : {"fast-at", "pgd-at"}) {
    recipe.method = method;
    CHECK(make_method(recipe).inner->seed == 77);
  }
  CHECK(validation_attack(recipe, 10).seed == 77);

  CHECK(training_augment(recipe, 5).pad == 0);
  CHECK_FALSE(training_augment(recipe, 5).flip);
  recipe.augment = "crop-flip";
  recipe.crop_pad = 3;
  const PadCropFlip augment = training_augment(recipe, 5);
  CHECK(augment.pad == 3);
  CHECK(augment.flip);
  const auto choices = [](const PadCropFlip& by) {
    std::vector<std::array<int64_t, 3>> all;
    for (int64_t sample = 0; sample < 50; ++sample) {
      const PadCropFlip::Choice choice = by.choose(sample);
      all.push_back({choice.dy, choice.dx, choice.mirrored});
    }
    return all;
  };
  CHECK(choices(training_augment(recipe, 5)) == choices(augment));
  CHECK(choices(training_augment(recipe, 6)) != choices(augment));
  recipe.seed = 78;
  CHECK(choices(training_augment(recipe, 5)) != choices(augment));
}

TEST_CASE("held-out images are attacked by PGD at the recipe's eps", "[trainer]") {
  Recipe recipe;
  recipe.method = "fast-at";  // neither the method nor its step size matters
  recipe.attack_alpha = 0.5;
  recipe.dtype = "bfloat16";
  recipe.eps = 0.3;
  recipe.norm = "L2";
  recipe.seed = 5;
  const AttackOptions attack = validation_attack(recipe, 20);
  CHECK(attack.threat.norm == Norm::kL2);
  CHECK(attack.threat.eps == 0.3);
  CHECK(attack.start == AttackStart::kRandom);
  CHECK(attack.steps == 20);
  CHECK(attack.alpha == Approx(2.5 * 0.3 / 20));
  CHECK(attack.restarts == 1);
  CHECK(attack.stop == StopRule::kOnSuccess);
  CHECK(attack.bn == AttackBn::kEval);
  CHECK(attack.dtype == Dtype::kBFloat16);  // as in training; successes are confirmed in float32
  CHECK(attack.seed == 5);
  recipe.attack_dtype = "float32";
  CHECK(validation_attack(recipe, 20).dtype == Dtype::kFloat32);
  recipe.norm = "Linf";
  CHECK(validation_attack(recipe, 20).threat.norm == Norm::kLinf);
}
