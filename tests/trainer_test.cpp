// Training: presets, the collapse probe, bit-identical reruns, checkpoints, and a short real run.
#include <catch2/catch.hpp>
#include <cstring>

#include "adversarial/evaluate.h"
#include "adversarial/trainer.h"
#include "models/checkpoint.h"
#include "tests/quarters.h"
#include "tests/temp_folder.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;

namespace {

constexpr const char* kFashionMnist = "/usr/share/datasets/fashion-mnist";

class Recorder : public TrainingObserver {
 public:
  void on_step(const StepRecord& record) override { steps.push_back(record); }
  void on_epoch(const EpochRecord& record) override { epochs.push_back(record); }
  void on_message(const std::string& sentence) override { messages.push_back(sentence); }
  std::vector<StepRecord> steps;
  std::vector<EpochRecord> epochs;
  std::vector<std::string> messages;
};

Bytes train_and_read(const Recipe& recipe, const Dataset& data, int threads) {
  Exec exec({}, threads);
  TempFolder folder;
  Recorder recorder;
  Trainer trainer(exec, recipe, data);
  trainer.run(folder.path(), recorder);
  return slurp(folder / "last.safetensors");
}

}  // namespace

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
  CHECK(error_of([&] { make_method(recipe); }).find("known are standard, pgd-at, fast-at") !=
        std::string::npos);
}

TEST_CASE("the collapse detector speaks when accuracy under PGD falls, and only then",
          "[trainer]") {
  CollapseDetector detector(0.2);
  CHECK_FALSE(detector.observe(0.10, 0.3, 100));
  CHECK_FALSE(detector.observe(0.45, 0.4, 200));
  CHECK_FALSE(detector.observe(0.30, 0.4, 300));
  const auto sentence = detector.observe(0.05, 0.9, 400);
  REQUIRE(sentence);
  CHECK(sentence->find("step 400") != std::string::npos);
  CHECK(sentence->find("5.0 % from 45.0 %") != std::string::npos);
  CHECK(sentence->find("catastrophic overfitting") == 0);
  const auto diverged = detector.observe(0.05, 0.1, 500);  // training fell too: not overfitting
  REQUIRE(diverged);
  CHECK(diverged->find("training diverges") == 0);
}

TEST_CASE("a rerun with the same seed and threads gives the same bytes", "[trainer]") {
  const Dataset data = quarters(160);
  const Recipe recipe = small_recipe();
  const Bytes first = train_and_read(recipe, data, 2);
  CHECK(train_and_read(recipe, data, 2) == first);
  Recipe other = recipe;
  other.seed = 4;
  CHECK(train_and_read(other, data, 2) != first);
}

TEST_CASE("without held-out images nothing is measured and the newest weights are kept",
          "[trainer]") {
  const Dataset data = quarters(160);
  Recipe recipe = small_recipe();
  recipe.hold_out = 0;
  recipe.probe_every = 0;
  recipe.epochs = 2;
  Exec exec;
  TempFolder folder;
  Recorder recorder;
  const TrainingResult result = Trainer(exec, recipe, data).run(folder.path(), recorder);
  REQUIRE(recorder.epochs.size() == 2);
  for (const EpochRecord& epoch : recorder.epochs) {
    CHECK_FALSE(epoch.clean_accuracy);
    CHECK_FALSE(epoch.robust_accuracy);
    CHECK(epoch.best);
  }
  CHECK_FALSE(result.best_robust);
  CHECK(result.best_epoch == 2);
  CHECK(load_checkpoint(exec, folder / "best.safetensors")
            .metadata.count("ringfort.held_out_robust_accuracy") == 0);
}

TEST_CASE("training learns, records and keeps the best checkpoint", "[trainer]") {
  const Dataset data = quarters(400);
  Recipe recipe = small_recipe();
  recipe.epochs = 6;
  recipe.augment = "none";          // a flip would change the class
  recipe.on_collapse = "continue";  // 16 probe images are too few to judge by
  Exec exec;
  TempFolder folder;
  Recorder recorder;
  Trainer trainer(exec, recipe, data);
  const TrainingResult result = trainer.run(folder.path(), recorder);
  CHECK(result.steps == 23 * 6);
  REQUIRE(recorder.epochs.size() == 6);
  CHECK(recorder.epochs.back().clean_accuracy > 0.9);
  CHECK(recorder.epochs.back().robust_accuracy > 0.6);
  CHECK(recorder.epochs.back().train_loss < recorder.epochs.front().train_loss);
  CHECK(result.best_robust >= recorder.epochs.back().robust_accuracy);
  CHECK(recorder.steps.back().step == result.steps);
  CHECK(recorder.steps.back().eta_seconds == 0);
  int probes = 0;
  for (const StepRecord& step : recorder.steps) probes += step.probe_accuracy.has_value();
  CHECK(probes == 23 * 6 / 5);

  // What was saved is what was trained: logits agree bit for bit.
  const LoadedModel loaded = load_checkpoint(exec, folder / "last.safetensors");
  Pool pool;
  const AttackInput input = random_input(pool, {8, 8, 8, 1}, 4, 1);
  const auto logits = [&](Model& model) {
    Pass p(exec, pool, model.params());
    return elements(model.forward(p, p.input(input.x_nat)).value);
  };
  CHECK(logits(*loaded.model) == logits(trainer.model()));
  CHECK(loaded.metadata.at("ringfort.dataset") == "quarters");
}

TEST_CASE("a collapse stops training or goes back, as configured", "[trainer]") {
  // A learning rate that throws the weights far away after a good start stands in for the collapse.
  const Dataset data = quarters(400);
  Recipe recipe = small_recipe();
  recipe.epochs = 8;
  recipe.augment = "none";
  recipe.sched = "piecewise";
  recipe.decay_milestones = {0.6};
  recipe.decay_rate = 60;
  recipe.momentum = 0;
  recipe.collapse_drop = 0.3;
  for (const char* policy : {"stop", "restore", "continue"}) {
    recipe.on_collapse = policy;
    Exec exec;
    TempFolder folder;
    Recorder recorder;
    Trainer trainer(exec, recipe, data);
    TrainingResult result;
    try {
      result = trainer.run(folder.path(), recorder);
    } catch (const Error&) {  // weights thrown far enough make the loss infinite, which is told too
    }
    REQUIRE(!recorder.messages.empty());
    CHECK(recorder.messages.front().find(" at step ") != std::string::npos);
    if (std::string(policy) == "stop") {
      CHECK(result.collapsed);
      CHECK(result.steps < 8 * 23);
      CHECK(std::filesystem::exists(folder / "best.safetensors"));
    }
    if (std::string(policy) == "restore")
      CHECK(recorder.messages.at(1).find("went back to the weights") != std::string::npos);
  }
}

TEST_CASE("checkpoints of another shape, damaged or foreign are refused", "[trainer]") {
  Exec exec;
  TempFolder folder;
  const auto model = make_model(tiny_spec("preact_resnet18", 4, 8, 3));
  initialize(exec, model->params(), 1);
  save_checkpoint(folder / "a.safetensors", *model, {});
  CHECK_NOTHROW(load_checkpoint(exec, folder / "a.safetensors"));
  Bytes bytes = slurp(folder / "a.safetensors");
  bytes[bytes.size() / 2] ^= 1;
  spit(folder / "b.safetensors", bytes);
  CHECK(error_of([&] { load_checkpoint(exec, folder / "b.safetensors"); }).find("b.safetensors") !=
        std::string::npos);
  bytes.erase(bytes.end() - 10, bytes.end());
  spit(folder / "b.safetensors", bytes);
  CHECK_THROWS_AS(load_checkpoint(exec, folder / "b.safetensors"), Error);
  CHECK_THROWS_AS(load_checkpoint(exec, folder / "missing.safetensors"), Error);
}

TEST_CASE("Fashion-MNIST becomes robust in 600 steps", "[trainer][slow]") {
  const Dataset train = load_dataset("fashion-mnist", kFashionMnist, Split::kTrain);
  Recipe recipe;
  recipe.model = "cnn_small";
  recipe.method = "fast-at";
  recipe.eps = 0.1;
  recipe.epochs = 2;
  recipe.max_steps = 600;
  recipe.hold_out = 256;
  recipe.probe_every = 0;
  Exec exec;
  TempFolder folder;
  Recorder recorder;
  Trainer trainer(exec, recipe, train);
  trainer.run(folder.path(), recorder);

  const Dataset test = load_dataset("fashion-mnist", kFashionMnist, Split::kTest);
  EvaluateOptions options;
  options.attack = validation_attack(recipe, 20);
  options.n = 500;
  Pool pool;
  const Evaluation e = evaluate(exec, pool, trainer.model(), test, options);
  CHECK(e.clean_accuracy > 0.77);
  CHECK(e.robust_accuracy > 0.62);
  CHECK(e.robust_accuracy < e.clean_accuracy);
  CHECK(e.examples.size() == 12);
}
