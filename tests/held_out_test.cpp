// Held-out images: measured on, never trained on, and what they say decides which weights are best.
#include <algorithm>
#include <catch2/catch.hpp>

#include "adversarial/input.h"
#include "engine/transfer.h"
#include "models/checkpoint.h"
#include "tests/scripted_run.h"

using namespace ringfort;
using namespace ringfort::test;

namespace {

// Six full batches to train on beside the 32 held-out images.
Dataset six_batches() { return quarters(32 + 6 * 16); }

// Another image and another label in each of these places.
Dataset replaced(Dataset data, const std::vector<int64_t>& samples) {
  for (const int64_t sample : samples) {
    int32_t& label = data.labels[static_cast<size_t>(sample)];
    label = (label + 1) % 4;
    for (int64_t i = 0; i < data.image_bytes(); ++i) {
      uint8_t& pixel = data.pixels[static_cast<size_t>(sample * data.image_bytes() + i)];
      pixel = static_cast<uint8_t>(255 - pixel);
    }
  }
  return data;
}

}  // namespace

TEST_CASE("no held-out image is trained on, and every other one is", "[trainer]") {
  Recipe recipe = small_recipe();
  recipe.seed = GENERATE(3, 4);
  recipe.hold_out = 32;
  const HoldOut split = split_hold_out(six_batches().count, recipe.hold_out, recipe.seed);
  const auto trained_on = [&](const Dataset& data) {
    ScriptedRun run(recipe, data, {});
    CHECK(run.validated() == split.held_out);
    CHECK(run.probed() ==
          std::vector(split.held_out.begin(), split.held_out.begin() + recipe.probe_samples));
    return run.now();
  };
  const TrainingState state = trained_on(six_batches());
  CHECK(trained_on(replaced(six_batches(), split.held_out)) == state);
  for (const size_t i : {size_t{0}, size_t{47}, split.training.size() - 1})
    CHECK_FALSE(trained_on(replaced(six_batches(), {split.training[i]})) == state);
}

TEST_CASE("best.safetensors holds the weights of the best epoch, last.safetensors the last",
          "[trainer]") {
  Recipe recipe = small_recipe();
  recipe.epochs = 4;
  recipe.seed = GENERATE(3, 4);
  ScriptedRun run(recipe, six_batches(), {.epochs = {0.5, 0.7, 0.7, 0.6}});
  REQUIRE(run.at_epoch().size() == 4);
  const auto saved = [&](const std::string& name) {
    return load_checkpoint(run.exec(), run.file(name));
  };
  const auto weights = [](const LoadedModel& loaded) {
    return ringfort::testing::bytes_of(loaded.model->params().flat_master());
  };
  for (size_t i = 0; i < 4; ++i) {
    INFO("epoch " << i + 1);
    CHECK((weights(saved("best.safetensors")) == run.at_epoch()[i].weights) == (i == 1));
    CHECK((weights(saved("last.safetensors")) == run.at_epoch()[i].weights) == (i == 3));
    CHECK(run.epochs()[i].best == (i < 2));
  }
  CHECK(run.result().best.epoch() == 2);
  CHECK(saved("best.safetensors").metadata.at("ringfort.epoch") == "2");
  CHECK(saved("best.safetensors").metadata.at("ringfort.held_out_robust_accuracy") == "0.7000");
  CHECK(saved("last.safetensors").metadata.at("ringfort.epoch") == "4");
}

TEST_CASE("what is recorded of held-out images is what the network does on them", "[trainer]") {
  const Dataset data = six_batches();
  const Recipe recipe = small_recipe();
  const HoldOut split = split_hold_out(data.count, recipe.hold_out, recipe.seed);
  Exec exec;
  TempFolder folder;
  Trainer trainer(exec, recipe, data);

  class Remeasure : public TrainingObserver {
   public:
    Remeasure(Exec& exec, const Recipe& recipe, const Dataset& data, const HoldOut& split,
              Trainer& trainer)
        : exec_(exec), recipe_(recipe), data_(data), split_(split), trainer_(trainer) {}
    void on_step(const StepRecord& record) override {
      if (!record.probe_accuracy) return;
      CHECK(*record.probe_accuracy == robust_accuracy(recipe_.probe_samples, 10));
      ++probes;
    }
    void on_epoch(const EpochRecord& record) override {
      CHECK(record.robust_accuracy == robust_accuracy(recipe_.hold_out, recipe_.val_attack_steps));
      const AttackInput images = input(recipe_.hold_out);
      const auto predictions = predict(exec_, pool_, trainer_.model(), images.x_nat);
      const auto labels = to_vector<int32_t>(exec_, images.labels);
      double right = 0;
      for (size_t i = 0; i < labels.size(); ++i) right += predictions[i] == labels[i];
      CHECK(record.clean_accuracy == right / static_cast<double>(labels.size()));
      ++epochs;
    }
    int probes = 0, epochs = 0;

   private:
    AttackInput input(int64_t count) {
      return make_input(exec_, pool_, data_,
                        std::span(split_.held_out).first(static_cast<size_t>(count)));
    }
    double robust_accuracy(int64_t count, int steps) {
      const AttackResult result = attack(exec_, pool_, trainer_.model(), input(count),
                                         validation_attack(recipe_, steps), recipe_.batch_size);
      const auto standing = std::count(result.fooled.begin(), result.fooled.end(), uint8_t{0});
      return static_cast<double>(standing) / static_cast<double>(count);
    }
    Exec& exec_;
    const Recipe& recipe_;
    const Dataset& data_;
    const HoldOut& split_;
    Trainer& trainer_;
    Pool pool_;
  } observer(exec, recipe, data, split, trainer);

  trainer.run(folder.path(), observer);
  CHECK(observer.probes == 2);
  CHECK(observer.epochs == 2);
}
