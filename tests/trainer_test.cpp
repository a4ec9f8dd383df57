// Training: what is learnt and told, bit-identical reruns, checkpoints, and a short real run.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "adversarial/evaluate.h"
#include "adversarial/input.h"
#include "adversarial/trainer.h"
#include "engine/safetensors.h"
#include "models/checkpoint.h"
#include "tests/quarters.h"
#include "tests/temp_folder.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

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

// plans: a file, because a rerun must not choose other algorithms because it measured other times.
Bytes train_and_read(const Recipe& recipe, const Dataset& data, int threads,
                     const std::string& plans) {
  Exec exec({}, threads, plans);
  TempFolder folder;
  Recorder recorder;
  Trainer trainer(exec, recipe, data);
  trainer.run(folder.path(), recorder);
  return slurp(folder / "last.safetensors");
}

}  // namespace

TEST_CASE("training crops anew in every epoch and starts its attack anew", "[trainer]") {
  // Two epochs over one batch, with weights that never move: what differs between the epochs is
  // what their keys decide.
  const Dataset data = quarters(16);
  Recipe recipe = small_recipe();
  recipe.hold_out = 0;
  recipe.probe_every = 0;
  recipe.lr = 1e-30;
  recipe.weight_decay = 0;
  const auto losses = [&](const std::string& augment, const std::string& method) {
    recipe.augment = augment;
    recipe.method = method;
    Exec exec;
    TempFolder folder;
    Recorder recorder;
    Trainer(exec, recipe, data).run(folder.path(), recorder);
    return std::pair(recorder.epochs.at(0).train_loss, recorder.epochs.at(1).train_loss);
  };
  const auto [still, still_later] = losses("none", "standard");
  CHECK(still_later == Approx(still).epsilon(1e-6));  // another order of the batch, another sum
  const auto [cropped, cropped_later] = losses("crop-flip", "standard");
  CHECK(std::fabs(cropped_later - cropped) > 1e-4 * cropped);
  recipe.attack_alpha = 1e-6;  // the start alone decides
  const auto [attacked, attacked_later] = losses("none", "fast-at");
  CHECK(std::fabs(attacked_later - attacked) > 1e-5 * attacked);
}

TEST_CASE("the best epoch is the one most accurate under attack", "[trainer]") {
  BestEpoch best;
  CHECK(best.epoch() == 0);
  CHECK(best.observe(1, 0.30));
  CHECK(best.observe(2, 0.45));
  CHECK_FALSE(best.observe(3, 0.45));
  CHECK_FALSE(best.observe(4, 0.20));
  CHECK(best.epoch() == 2);
  CHECK(best.robust_accuracy() == 0.45);
  BestEpoch newest;
  for (int epoch = 1; epoch <= 3; ++epoch) CHECK(newest.observe(epoch, std::nullopt));
  CHECK(newest.epoch() == 3);
}

TEST_CASE("a loss no better than guessing is said", "[trainer]") {
  const Dataset data = quarters(160);
  Recipe recipe = small_recipe();
  recipe.lr = 1e-30;  // nothing is learnt; initial logits are close to 0, worse than all alike
  recipe.eps = 0.5;
  recipe.method = "fast-at";
  Exec exec;
  TempFolder folder;
  Recorder recorder;
  Trainer(exec, recipe, data).run(folder.path(), recorder);
  REQUIRE(!recorder.messages.empty());
  CHECK_THAT(recorder.messages.front(), Contains("guessing (1.386)") && Contains("epoch 1"));
}

TEST_CASE("a rerun with the same seed and threads gives the same bytes", "[trainer]") {
  const Dataset data = quarters(160);
  const Recipe recipe = small_recipe();
  const TempFolder folder;
  const std::string plans = (folder / "plans.json").string();
  const Bytes first = train_and_read(recipe, data, 2, plans);
  CHECK(train_and_read(recipe, data, 2, plans) == first);
  Recipe other = recipe;
  other.seed = 4;
  CHECK(train_and_read(other, data, 2, plans) != first);
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
  CHECK_FALSE(result.best.robust_accuracy());
  CHECK(result.best.epoch() == 2);
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
  CHECK(result.best.robust_accuracy() >= recorder.epochs.back().robust_accuracy);
  // Best is what it says: a strictly higher held-out accuracy under PGD than in any epoch before.
  double highest = -1;
  for (const EpochRecord& epoch : recorder.epochs) {
    CHECK(epoch.best == (*epoch.robust_accuracy > highest));
    highest = std::max(highest, *epoch.robust_accuracy);
  }
  CHECK(recorder.steps.back().step == result.steps);
  CHECK(recorder.steps.back().eta_seconds == 0);
  int probes = 0;
  for (const StepRecord& step : recorder.steps) probes += step.probe_accuracy.has_value();
  CHECK(probes == 23 * 6 / 5);
  // All phases of a step are timed, and no time of validation or probes is among them.
  int64_t told = 0;
  double in_steps = 0;
  for (const StepRecord& step : recorder.steps) {
    for (const double seconds : step.phases) CHECK(seconds > 0);
    CHECK(step.memory > 0);
    in_steps += std::accumulate(step.phases.begin(), step.phases.end(), 0.0) *
                static_cast<double>(step.step - std::exchange(told, step.step));
  }
  CHECK(in_steps < recorder.epochs.back().seconds);
  CHECK(recorder.epochs.back().phases[1] > 0);
  CHECK(recorder.epochs.back().memory > 0);

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

TEST_CASE("a loss that is no longer finite ends training with advice", "[trainer]") {
  const Dataset data = quarters(160);
  Recipe recipe = small_recipe();
  recipe.lr = 1e30;  // after one step the logits overflow
  recipe.sched = "constant";
  recipe.warmup_epochs = 0.25;
  recipe.method = GENERATE("standard", "pgd-at");
  recipe.max_skipped = 2;
  Exec exec;
  TempFolder folder;
  Recorder recorder;
  Trainer trainer(exec, recipe, data);
  CHECK_THAT(error_of([&] { trainer.run(folder.path(), recorder); }),
             Contains("had no finite loss and gradient") && Contains("(--max-skipped)") &&
                 Contains("--lr (now 1e+30)") && Contains("--warmup-epochs (now 0.25)"));
  CHECK_THAT(recorder.messages.at(0), Contains("3 steps from step 2: the loss or its gradient was "
                                               "not finite"));
}

TEST_CASE("a warm-up that training does not outlast is refused", "[trainer]") {
  const Dataset data = quarters(160);  // 8 steps per epoch
  Recipe recipe = small_recipe();
  Exec exec;
  const auto refusal = [&](double warmup_epochs, int64_t max_steps) {
    recipe.warmup_epochs = warmup_epochs;
    recipe.max_steps = max_steps;
    return error_of([&] { Trainer(exec, recipe, data); });
  };
  CHECK(refusal(1.9, 0).empty());
  CHECK_THAT(refusal(2, 0), Contains("16 steps and training only 16") && Contains("(now 2)"));
  CHECK(refusal(0.5, 5).empty());
  CHECK_THAT(refusal(0.5, 4), Contains("4 steps and training only 4"));
}

TEST_CASE("validation judges the network by the norms that attacked images go through",
          "[trainer]") {
  // Once the last step is done, whatever goes through the first set has no logits.
  class Poison final : public Recorder {
   public:
    void on_step(const StepRecord& record) override {
      Recorder::on_step(record);
      ParamStore& params = trainer->model().params();
      std::array<View, 2> last;  // mean and variance of the last norm: a ReLU hides what is before
      for (size_t i = 0; i < params.statistics().size(); ++i) {
        const Segment& segment = params.statistics()[i];
        if (segment.name.find(".aux_bn.") == std::string::npos)
          last.at(segment.kind == ParamKind::kRunningMean ? 0 : 1) =
              params.statistic(static_cast<StatId>(i));
      }
      std::fill_n(last[0].as<float>(), last[0].count(), -1e38f);
      std::fill_n(last[1].as<float>(), last[1].count(), 0.0f);
      params.statistics_changed();
    }
    Trainer* trainer = nullptr;
  };
  Recipe recipe = small_recipe();
  recipe.model = "preact_resnet18";
  recipe.method = "trades";
  recipe.auxiliary_norms = true;
  recipe.max_steps = 1;
  recipe.probe_every = 0;
  Exec exec;
  const TempFolder folder;
  const Dataset data = quarters(32 + 16);
  Poison poison;
  Trainer trainer(exec, recipe, data);
  poison.trainer = &trainer;
  CHECK_NOTHROW(trainer.run(folder.path(), poison));
  Pool pool;
  const Tensor images = random_input(pool, {2, 8, 8, 1}, 4, 1).x_nat;
  CHECK_THROWS_AS(predict(exec, pool, trainer.model(), images, 2, Norms::kMain), Error);
  CHECK(poison.steps.size() == 1);
  REQUIRE(poison.epochs.size() == 1);
  CHECK(poison.epochs[0].clean_accuracy.has_value());
  CHECK(poison.epochs[0].robust_accuracy.has_value());
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

TEST_CASE("a checkpoint of another format is refused by its number", "[trainer]") {
  Exec exec;
  const TempFolder folder;
  const auto path = folder / "a.safetensors";
  save_checkpoint(path, *make_model(tiny_spec("cnn_small", 4, 8, 1)), {});
  const SafetensorsFile file = load_safetensors(path);
  const auto refusal = [&](const std::string& format) {
    auto description = nlohmann::json::parse(file.metadata.at(kModelKey));
    if (format.empty())
      description.erase("format");
    else
      description["format"] = nlohmann::json::parse(format);
    save_safetensors(path, file.arrays, {{kModelKey, description.dump()}});
    return error_of([&] { load_checkpoint(exec, path); });
  };
  CHECK(refusal(std::to_string(kCheckpointFormat)).empty());
  CHECK_THAT(refusal(""), Contains("a.safetensors: this checkpoint does not say which format"));
  CHECK_THAT(refusal("0"), Contains("has format 0") && Contains("older version"));
  CHECK_THAT(refusal(std::to_string(kCheckpointFormat + 1)), Contains("newer one"));
  CHECK_THAT(refusal("\"1\""), Contains("no whole number"));
  save_safetensors(path, file.arrays, {{kModelKey, "[]"}});
  CHECK_THAT(error_of([&] { load_checkpoint(exec, path); }), Contains("which format"));
}

TEST_CASE("a checkpoint whose network gives no predictions is refused", "[trainer]") {
  Exec exec;
  TempFolder folder;
  const auto model = make_model(tiny_spec("preact_resnet18", 4, 8, 3));
  initialize(exec, model->params(), 1);
  for (const View& flat : {model->params().flat_master(), model->params().flat_statistics()})
    for (const float value : {std::nanf(""), INFINITY}) {
      float& element = flat.as<float>()[0];
      const float before = element;
      element = value;
      save_checkpoint(folder / "a.safetensors", *model, {});
      element = before;
      CHECK_THAT(error_of([&] { load_checkpoint(exec, folder / "a.safetensors"); }),
                 Contains("a.safetensors") && Contains("no predictions"));
    }
}

TEST_CASE("a checkpoint with a negative variance is refused", "[trainer]") {
  Exec exec;
  TempFolder folder;
  const auto model = make_model(tiny_spec("preact_resnet18", 4, 8, 3));
  ParamStore& params = model->params();
  initialize(exec, params, 1);
  for (size_t i = 0; i < params.statistics().size(); ++i) {
    const Segment& segment = params.statistics()[i];
    INFO(segment.name);
    float& element = params.statistic(static_cast<StatId>(i)).as<float>()[0];
    const float before = element;
    element = -1;
    save_checkpoint(folder / "a.safetensors", *model, {});
    element = before;
    const std::string refusal = error_of([&] { load_checkpoint(exec, folder / "a.safetensors"); });
    if (segment.name.ends_with("running_mean")) {
      CHECK(refusal.empty());
    } else {
      CHECK_THAT(refusal, Contains(segment.name) && Contains("no variance is negative"));
    }
  }
}

TEST_CASE("a checkpoint that describes an impossible model is refused", "[trainer]") {
  Exec exec;
  TempFolder folder;
  const auto path = folder / "a.safetensors";
  const std::string spec =
      R"({"format":1,"name":"cnn_small","width":4,"classes":4,"height":8,"image_width":8,"channels":1,)"
      R"("mean":[],"std":[]})";
  const auto refused = [&](const std::string& from, const std::string& to) {
    std::string changed = spec;
    changed.replace(changed.find(from), from.size(), to);
    save_safetensors(path, {}, {{"ringfort.model", changed}});
    return error_of([&] { load_checkpoint(exec, path); });
  };
  for (const auto& [from, to, what] : std::vector<std::array<std::string, 3>>{
           {"\"width\":4", "\"width\":0", "width 0"},
           {"\"classes\":4", "\"classes\":-1", "classes -1"},
           {"\"classes\":4", "\"classes\":1", "2 classes"},
           {"\"height\":8", "\"height\":-28", "height -28"},
           {"\"image_width\":8", "\"image_width\":1000000000000", "image_width 1000000000000"},
           {"\"channels\":1", "\"channels\":0", "channels 0"},
           {"cnn_small", "vgg", "known are"},
           {"\"mean\":[]", "\"mean\":\"x\"", "cannot be read"}})
    CHECK_THAT(refused(from, to), Contains("a.safetensors") && Contains(what));
  CHECK_THAT(refused("cnn_small", "cnn_small"), Contains("missing: conv1.weight"));
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
