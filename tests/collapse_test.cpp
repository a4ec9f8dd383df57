// The collapse probe: when it speaks, and what training does then. Accuracies are scripted.
#include <catch2/catch.hpp>

#include "adversarial/collapse.h"
#include "models/checkpoint.h"
#include "tests/scripted_run.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;
using Catch::StartsWith;

namespace {

// 6 steps per epoch, of which three end with a probe. Batch norm, so that there are statistics.
Recipe probing_recipe() {
  Recipe recipe = small_recipe();
  recipe.model = "preact_resnet18";
  recipe.width = 2;
  recipe.method = "fast-at";
  recipe.attack_steps = 1;
  recipe.probe_every = 2;
  recipe.probe_samples = 8;
  recipe.hold_out = 16;
  recipe.seed = GENERATE(0, 1, 2, 3);
  return recipe;
}

Dataset probing_data() { return quarters(16 + 6 * 16); }

// The weights and statistics in a run's checkpoint are those of this state.
void check_saved(ScriptedRun& run, const std::string& name, const TrainingState& state) {
  INFO(name);
  const LoadedModel loaded = load_checkpoint(run.exec(), run.file(name));
  CHECK(ringfort::testing::bytes_of(loaded.model->params().flat_master()) == state.weights);
  CHECK(ringfort::testing::bytes_of(loaded.model->params().flat_statistics()) == state.statistics);
}

void check_all_differ(const TrainingState& a, const TrainingState& b) {
  CHECK(a.weights != b.weights);
  CHECK(a.statistics != b.statistics);
  CHECK(a.optimizer != b.optimizer);
}

}  // namespace

TEST_CASE("the collapse detector speaks when accuracy under PGD falls, and only then",
          "[trainer]") {
  CollapseDetector detector(0.2, 256);
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

TEST_CASE("the collapse detector hears a low accuracy fall to nothing", "[trainer]") {
  // None of these falls by 20 %.
  CollapseDetector detector(0.2, 256);
  CHECK_FALSE(detector.observe(0.12, 0.3, 100));
  CHECK_FALSE(detector.observe(0.19, 0.4, 200));
  const auto sentence = detector.observe(0.0, 0.95, 300);
  REQUIRE(sentence);
  CHECK_THAT(*sentence, StartsWith("catastrophic overfitting") && Contains("0.0 % from 19.0 %"));
  // Half of 19 %, less three standard errors of 256 images, is 2.9 %.
  CHECK_FALSE(detector.observe(8.0 / 256, 0.95, 400));
  CHECK(detector.observe(7.0 / 256, 0.95, 500));
}

TEST_CASE("the collapse detector takes no noise for a collapse", "[trainer]") {
  // Down by three standard errors of the probe (7 %) and up again, around 19 %.
  CollapseDetector detector(0.2, 256);
  for (const double probe : {0.19, 0.12, 0.21, 0.15, 0.10, 0.19, 0.12})
    CHECK_FALSE(detector.observe(probe, 0.4, 100));
  // Of 16 images none may stand by chance where three did; of 1,000 it may not.
  CollapseDetector few(0.2, 16);
  CHECK_FALSE(few.observe(0.19, 0.4, 100));
  CHECK_FALSE(few.observe(0.0, 0.9, 200));
  CollapseDetector many(0.2, 1000);
  CHECK_FALSE(many.observe(0.05, 0.4, 100));
  CHECK(many.observe(0.0, 0.9, 200));
}

TEST_CASE("after a collapse 'restore' goes back to the last healthy probe and on from there",
          "[trainer]") {
  Recipe recipe = probing_recipe();
  recipe.on_collapse = "restore";
  recipe.epochs = 1;
  ScriptedRun run(recipe, probing_data(), {.probes = {0.7, 0.8, 0.1}});
  REQUIRE(run.at_probe().size() == 3);
  REQUIRE(run.messages().size() >= 2);
  const ScriptedRun::Message &told = run.messages()[0], &back = run.messages()[1];
  CHECK_THAT(told.sentence, Contains("at step 6") && Contains("10.0 % from 80.0 %"));
  CHECK(told.state == run.at_probe()[2]);
  CHECK_THAT(back.sentence, StartsWith("went back") && Contains("80.0 %"));
  check_all_differ(run.at_probe()[1], run.at_probe()[0]);
  check_all_differ(run.at_probe()[1], run.at_probe()[2]);
  CHECK(back.state == run.at_probe()[1]);
  CHECK_FALSE(run.result().collapsed);
  check_saved(run, "last.safetensors", run.at_probe()[1]);

  // In a longer run the steps after it are trained from there.
  recipe.epochs = 2;
  ScriptedRun longer(recipe, probing_data(), {.probes = {0.8, 0.7, 0.1, 0.8}});
  CHECK(longer.result().steps == 12);
  CHECK(longer.at_probe().size() == 6);
  CHECK(longer.messages().at(1).state == longer.at_probe()[1]);
  check_all_differ(longer.at_probe()[3], longer.at_probe()[1]);
  CHECK_FALSE(longer.result().collapsed);
}

TEST_CASE("after a collapse 'stop' leaves checkpoints from before it", "[trainer]") {
  Recipe recipe = probing_recipe();
  recipe.on_collapse = "stop";
  SECTION("in the first epoch, when nothing is saved yet") {
    ScriptedRun run(recipe, probing_data(), {.probes = {0.8, 0.1}});
    CHECK(run.result().collapsed);
    CHECK(run.result().steps == 4);
    CHECK(run.epochs().size() == 1);
    check_all_differ(run.at_probe()[0], run.at_probe()[1]);
    check_saved(run, "best.safetensors", run.at_probe()[0]);
    check_saved(run, "last.safetensors", run.at_probe()[0]);
    CHECK_THAT(run.messages().at(0).sentence, Contains("at step 4"));
    CHECK(run.messages().at(1).state == run.at_probe()[0]);
    CHECK_THAT(run.messages().at(2).sentence, StartsWith("training stops here"));
  }
  SECTION("in a later epoch, where the epoch before was better") {
    ScriptedRun run(recipe, probing_data(),
                    {.probes = {0.8, 0.8, 0.8, 0.8, 0.1}, .epochs = {0.6, 0.5}});
    CHECK(run.result().collapsed);
    CHECK(run.result().steps == 10);
    CHECK(run.result().best.epoch() == 1);
    check_all_differ(run.at_epoch()[0], run.at_probe()[3]);
    check_saved(run, "best.safetensors", run.at_epoch()[0]);
    check_saved(run, "last.safetensors", run.at_probe()[3]);
  }
  SECTION("in a later epoch, where that seems better than the epoch before") {
    ScriptedRun run(recipe, probing_data(),
                    {.probes = {0.8, 0.8, 0.8, 0.8, 0.1}, .epochs = {0.5, 0.6}});
    CHECK(run.result().best.epoch() == 2);
    check_saved(run, "best.safetensors", run.at_probe()[3]);
    check_saved(run, "last.safetensors", run.at_probe()[3]);
  }
}

TEST_CASE("after a collapse 'continue' says so and changes nothing", "[trainer]") {
  Recipe recipe = probing_recipe();
  recipe.on_collapse = "continue";
  ScriptedRun run(recipe, probing_data(), {.probes = {0.8, 0.1, 0.2, 0.8}});
  ScriptedRun calm(recipe, probing_data(), {.probes = {0.8}});
  CHECK_THAT(run.messages().at(0).sentence, Contains("at step 4"));
  CHECK_THAT(run.messages().at(1).sentence, Contains("at step 6"));
  CHECK(run.result().steps == 12);
  CHECK_FALSE(run.result().collapsed);
  CHECK(run.now() == calm.now());
}

TEST_CASE("standard training, which is not meant to be robust, does not collapse", "[trainer]") {
  Recipe recipe = probing_recipe();
  recipe.method = "standard";
  recipe.on_collapse = "stop";
  ScriptedRun run(recipe, probing_data(), {.probes = {0.8, 0.0}});
  CHECK(run.result().steps == 12);
  CHECK_FALSE(run.result().collapsed);
}
