// What a program that uses the library brings of its own: data sets, networks, attacks.
#include <algorithm>
#include <catch2/catch.hpp>

#include "adversarial/evaluate.h"
#include "adversarial/trainer.h"
#include "models/checkpoint.h"
#include "tests/quarters.h"
#include "tests/temp_folder.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

// One linear layer, under a name that a recipe can give.
class OwnModel final : public Model {
 public:
  OwnModel(ModelSpec given, Dtype master) : Model(std::move(given), master) {
    const int64_t size = spec().height * spec().image_width * spec().channels;
    layer_ = LayerBuilder(params()).linear("fc", size, spec().classes);
  }

 private:
  Var body(Pass& p, Var x) override {
    return linear(p, flatten(p, std::move(x)), layer_, Activation::kNone, logits_dtype(p));
  }
  LinearParams layer_;
};

const ModelEntry kOwnModel = {
    "own_model", 7, "a linear layer", [](ModelSpec spec, Dtype master) {
      return std::unique_ptr<Model>(new OwnModel(std::move(spec), master));
    }};

}  // namespace

TEST_CASE("a model of the caller's own is trained, kept and loaded by its name", "[own]") {
  if (std::none_of(model_registry().begin(), model_registry().end(),
                   [](const ModelEntry& entry) { return entry.name == kOwnModel.name; }))
    register_model(kOwnModel);
  CHECK_THROWS_WITH(register_model(kOwnModel), Contains("a model 'own_model' already"));
  CHECK_THROWS_WITH(register_model({"resnet18", 1, "", kOwnModel.make}), Contains("resnet18"));

  const Dataset data = quarters(96);
  Recipe recipe = small_recipe();
  recipe.model = "own_model";
  recipe.width = 0;
  TempFolder folder;
  Exec exec;
  TrainingObserver silent;
  CHECK(plan_memory(recipe, data, {}).weights > 0);
  Trainer trainer(exec, recipe, data);
  trainer.run(folder.path(), silent);
  const LoadedModel loaded = load_checkpoint(exec, folder / "last.safetensors");
  CHECK(dynamic_cast<OwnModel*>(loaded.model.get()) != nullptr);
  CHECK(loaded.model->spec().width == 7);
  const View trained = trainer.model().params().flat_master();
  const View read = loaded.model->params().flat_master();
  CHECK(std::equal(trained.as<float>(), trained.as<float>() + trained.count(), read.as<float>(),
                   read.as<float>() + read.count()));
}

TEST_CASE("an attack of the caller's own is judged like any other", "[own]") {
  Exec exec;
  Pool pool;
  const Dataset test = quarters(40);
  LinearModel model(test.height, test.channels, std::ssize(test.class_names));
  initialize(exec, model.params(), 3);
  EvaluateOptions options;
  options.attack_name = "shift";
  options.attack.threat.eps = 0.25;
  options.n = 30;
  float shift = -0.25f;
  int64_t called = 0;
  options.own_attack = [&](const AttackInput& input) {
    ++called;
    const Tensor x_adv(pool, input.x_nat.shape(), Dtype::kFloat32);
    for (int64_t i = 0; i < x_adv.view().count(); ++i)
      x_adv.as<float>()[i] = std::max(0.0f, input.x_nat.as<const float>()[i] + shift);
    return x_adv;
  };
  const Evaluation e = evaluate(exec, pool, model, test, options);
  CHECK(called == 1);
  CHECK(e.attack == "shift");
  CHECK(e.n == 30);
  // The same images, answered one by one.
  std::vector<float> shifted;
  for (int64_t i = 0; i < 30; ++i)
    for (const uint8_t byte : test.image(i))
      shifted.push_back(std::max(0.0f, static_cast<float>(byte) / 255 + shift));
  const Tensor images(pool, {30, test.height, test.width, test.channels}, Dtype::kFloat32);
  std::copy(shifted.begin(), shifted.end(), images.as<float>());
  CHECK(e.adversarial_predictions == predict(exec, pool, model, images));

  shift = -0.3f;
  CHECK_THROWS_WITH(evaluate(exec, pool, model, test, options), Contains("threat model allows"));
  options.own_attack = [](const AttackInput& input) { return input.x_nat.samples(0, 29); };
  CHECK_THROWS_WITH(evaluate(exec, pool, model, test, options), Contains("the attack 'shift'"));
  options.own_attack = [](const AttackInput& input) { return input.labels; };
  CHECK_THROWS_WITH(evaluate(exec, pool, model, test, options), Contains("int32 images"));
}

TEST_CASE("a data set of the caller's own is checked before anything reads it", "[own]") {
  const auto refused = [](const std::string& part, auto&& damage) {
    Dataset data = quarters(24);
    REQUIRE_NOTHROW(require_consistent(data));
    damage(data);
    CHECK_THAT(error_of([&] { require_consistent(data); }), Contains(part));
    Exec exec;
    Pool pool;
    Recipe recipe = small_recipe();
    recipe.hold_out = 4;
    CHECK_THAT(error_of([&] { Trainer(exec, recipe, data); }), Contains(part));
    LinearModel model(8, 3, 4);
    CHECK_THAT(error_of([&] { evaluate(exec, pool, model, data, {}); }), Contains(part));
  };
  refused("at least 1", [](Dataset& data) { data.channels = 0; });
  refused("bytes, it has", [](Dataset& data) { data.pixels.pop_back(); });
  refused("24 images have 23 labels", [](Dataset& data) { data.labels.pop_back(); });
  refused("image 23 has label 4", [](Dataset& data) { data.labels.back() = 4; });
  refused("image 0 has label -1", [](Dataset& data) { data.labels.front() = -1; });
  refused("1 means and 2 standard", [](Dataset& data) { data.std.push_back(1); });
  Dataset none = quarters(24);
  none.count = 0;
  CHECK_THAT(error_of([&] { require_consistent(none); }), Contains("at least 1"));
}

TEST_CASE("an attack takes labels as a vector or as a column", "[own]") {
  Exec exec;
  Pool pool;
  LinearModel model(4, 1, 4);
  initialize(exec, model.params(), 3);
  AttackInput input = random_input(pool, {5, 4, 4, 1}, 4, 7);
  const AttackOptions options = pgd({.eps = 0.1}, 3, 0.05);
  const AttackResult column = attack(exec, pool, model, input, options, 2);
  input.labels = input.labels.reshaped(vector_shape(5));
  input.samples = input.samples.reshaped(vector_shape(5));
  const AttackResult vector = attack(exec, pool, model, input, options, 2);
  CHECK(elements(vector.x_adv) == elements(column.x_adv));
  CHECK(vector.fooled == column.fooled);
}

TEST_CASE("evaluation_attack() knows the attacks by name", "[own]") {
  const ThreatModel threat{.eps = 0.25};
  const AttackOptions strong = evaluation_attack("pgd", threat, 50);
  CHECK(strong.steps == 50);
  CHECK(strong.alpha == 0.0625);
  CHECK(strong.start == AttackStart::kRandom);
  CHECK(evaluation_attack("fgsm", threat, 1).start == AttackStart::kNatural);
  CHECK(evaluation_attack("fgsm", threat, 1).alpha == 0.25);
  CHECK(evaluation_attack("fgsm-rs", threat, 1).alpha == 0.3125);
  for (const char* name : {"pgd", "fgsm", "fgsm-rs"}) {
    const AttackOptions options = evaluation_attack(name, threat, 1);
    CHECK(options.bn == AttackBn::kEval);
    CHECK(options.stop == StopRule::kOnSuccess);
    CHECK(options.threat.eps == 0.25);
  }
  CHECK_THROWS_WITH(evaluation_attack("cw", threat, 1), Contains("'cw'") && Contains("fgsm-rs"));
  CHECK_THROWS_WITH(evaluation_attack("fgsm", threat, 2), Contains("one step, not 2"));
}
