// Averaged weights in training: they are what is validated and kept, and taking their place for
// that changes nothing of what is learnt.
#include <catch2/catch.hpp>

#include "models/checkpoint.h"
#include "tests/scripted_run.h"

using namespace ringfort;
using namespace ringfort::test;
using testing::bytes_of;

namespace {

Recipe averaged(const std::string& model = "cnn_small") {
  Recipe recipe = small_recipe();
  recipe.model = model;
  recipe.ema_decay = 0.9;
  recipe.ema_warmup = 0;
  return recipe;
}

Dataset six_batches() { return quarters(32 + 6 * 16); }

// The state without what is the average's own.
std::pair<std::vector<std::byte>, std::vector<std::byte>> learnt(const TrainingState& state) {
  return {state.weights, state.statistics};
}

std::vector<std::byte> average_of(const TrainingState& state) { return state.optimizer.back(); }

LoadedModel load(ScriptedRun& run, const std::string& name) {
  return load_checkpoint(run.exec(), run.file(name));
}

}  // namespace

TEST_CASE("the average is validated and kept, the weights go on as without it", "[trainer]") {
  for (const std::string statistics : {"live", "re-estimate"}) {
    Recipe recipe = averaged("preact_resnet18");
    recipe.ema_statistics = statistics;
    ScriptedRun with(recipe, six_batches(), {});
    recipe.ema_decay = 0;
    ScriptedRun without(recipe, six_batches(), {});
    CHECK(learnt(with.now()) == learnt(without.now()));
    for (size_t epoch = 0; epoch < 2; ++epoch)
      CHECK(learnt(with.at_epoch()[epoch]) == learnt(without.at_epoch()[epoch]));

    const LoadedModel last = load(with, "last.safetensors"),
                      live = load(without, "last.safetensors");
    CHECK(bytes_of(last.model->params().flat_master()) == average_of(with.now()));
    CHECK(average_of(with.now()) != with.now().weights);
    const bool same_statistics = bytes_of(last.model->params().flat_statistics()) ==
                                 bytes_of(live.model->params().flat_statistics());
    CHECK(same_statistics == (statistics == "live"));
    CHECK(last.metadata.at("ringfort.weights").find("decay 0.9") != std::string::npos);
    CHECK(live.metadata.count("ringfort.weights") == 0);
    // They are kept as well, to be compared with their average.
    const LoadedModel kept = load(with, "live.safetensors");
    CHECK(bytes_of(kept.model->params().flat_master()) ==
          bytes_of(live.model->params().flat_master()));
    CHECK(bytes_of(kept.model->params().flat_statistics()) ==
          bytes_of(live.model->params().flat_statistics()));
    CHECK(kept.metadata.count("ringfort.weights") == 0);
    CHECK_FALSE(std::filesystem::exists(without.file("live.safetensors")));
  }
}

TEST_CASE("the average begins at the weights that training begins with", "[trainer]") {
  Recipe recipe = averaged();
  recipe.max_steps = 1;
  recipe.lr = 1e-30;
  recipe.weight_decay = 0;
  ScriptedRun still(recipe, six_batches(), {});  // the weights as they begin
  recipe.lr = 0.05;
  ScriptedRun run(recipe, six_batches(), {});
  const auto floats = [](const std::vector<std::byte>& bytes) {
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  };
  const std::vector<float> before = floats(still.now().weights), after = floats(run.now().weights),
                           average = floats(average_of(run.now()));
  CHECK(before != after);
  for (size_t i = 0; i < average.size(); ++i)  // the first step's share is 1 - 1 / 10
    CHECK(average[i] == Approx(0.1f * before[i] + 0.9f * after[i]).margin(1e-7));
}

TEST_CASE("through its warm-up the average is the weights", "[trainer]") {
  Recipe recipe = averaged();
  recipe.ema_warmup = 1;
  ScriptedRun run(recipe, six_batches(), {});
  CHECK(average_of(run.now()) == run.now().weights);
}

TEST_CASE("after a collapse the average, too, is from before it", "[trainer]") {
  Recipe recipe = averaged();
  recipe.probe_every = 2;
  ScriptedRun run(recipe, six_batches(), {.probes = {0.8, 0.1}});
  REQUIRE(run.result().collapsed);
  CHECK(run.now() == run.at_probe()[0]);
  CHECK(bytes_of(load(run, "last.safetensors").model->params().flat_master()) ==
        average_of(run.at_probe()[0]));
}
