// Taking a step of training apart: the step is the one that training took, and the first number
// that is not finite is found where it arises.
#include "adversarial/replay.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "adversarial/state_files.h"
#include "adversarial/trainer.h"
#include "engine/safetensors.h"
#include "kernels/plans.h"
#include "tests/quarters.h"
#include "tests/temp_folder.h"
#include "tests/tensors.h"

using namespace ringfort;
using namespace ringfort::test;

namespace {

Dataset five_batches() { return quarters(32 + 5 * 16); }

struct Replayed {
  Exec exec{{}, 1};
  Trainer trainer;
  std::vector<int64_t> steps;

  Replayed(const Recipe& recipe, const Dataset& data) : trainer(exec, recipe, data) {
    exec.plans().force("direct");
  }
  StepReplay at(int64_t step) {
    return trainer.replay(step, [this](int64_t done) { steps.push_back(done); });
  }
};

// What training records of each step.
class StepLosses : public TrainingObserver {
 public:
  void on_step(const StepRecord& record) override { losses.push_back(record.loss); }
  bool stop_requested() override { return losses.size() == stop_after; }
  std::vector<double> losses;
  size_t stop_after = 0;
};

Recipe each_step_recorded() {
  Recipe recipe = small_recipe();
  recipe.log_every = 1;
  recipe.threads = 1;
  return recipe;
}

}  // namespace

TEST_CASE("a replayed step has the loss that training had, in any epoch", "[replay]") {
  Recipe recipe = each_step_recorded();
  recipe.method = GENERATE("pgd-at", "trades");
  recipe.awp_gamma = 0.01;
  const Dataset data = five_batches();
  Exec exec({}, 1);
  exec.plans().force("direct");
  TempFolder folder;
  StepLosses recorded;
  Trainer(exec, recipe, data).run(folder.path(), recorded);
  REQUIRE(recorded.losses.size() == 10);
  for (const int64_t step : {1, 4, 6, 10}) {
    Replayed replayed(recipe, data);
    const StepReplay found = replayed.at(step);
    CHECK(found.step == step);
    CHECK(found.epoch == (step - 1) / 5 + 1);
    CHECK(found.samples.size() == 16);
    CHECK_FALSE(found.first);
    CHECK(found.gradient_norm > 0);
    CHECK(found.mean_loss() ==
          Approx(recorded.losses[static_cast<size_t>(step - 1)]).epsilon(1e-6));
    CHECK(replayed.steps.size() == static_cast<size_t>(step - 1));
  }
}

TEST_CASE("a replay goes on from a saved state", "[replay]") {
  const Recipe recipe = each_step_recorded();
  const Dataset data = five_batches();
  Exec exec({}, 1);
  exec.plans().force("direct");
  TempFolder folder;
  StepLosses recorded;
  recorded.stop_after = 7;
  Trainer(exec, recipe, data).run(folder.path(), recorded);
  CHECK(state_files(folder.path(), 7).empty());
  REQUIRE(state_files(folder.path(), 8).size() == 1);
  Replayed from_state(recipe, data), from_start(recipe, data);
  from_state.trainer.resume(state_files(folder.path(), 8)[0]);
  const StepReplay a = from_state.at(9), b = from_start.at(9);
  CHECK(from_state.steps == std::vector<int64_t>{8});
  CHECK(a.losses == b.losses);
  CHECK(a.samples == b.samples);
  CHECK(a.gradient_norm == b.gradient_norm);
}

TEST_CASE("the first number that is not finite is found where it arises", "[replay]") {
  Recipe recipe = each_step_recorded();
  recipe.method = "standard";
  const Dataset data = five_batches();
  Replayed replayed(recipe, data);
  ParamStore& params = replayed.trainer.model().params();
  const auto poison = [&](const std::string& name, float value) {
    for (size_t i = 0; i < params.segments().size(); ++i)
      if (params.segments()[i].name == name)
        params.master(static_cast<ParamId>(i)).as<float>()[3] = value;
    params.master_changed(replayed.exec);
  };
  // Of an earlier layer the ReLU makes zeros of what is no number, and the gradient shows it.
  const std::vector<Segment>& segments = params.segments();
  poison(segments[segments.size() - 2].name, NAN);  // the last matrix, before its bias
  const StepReplay found = replayed.at(1);
  REQUIRE(found.first);
  CHECK(found.first->what == "the value after " + segments.back().name);
  CHECK(found.first->count > 0);
  CHECK(found.first->count < found.first->shape.count());  // one class
  CHECK(std::isnan(found.mean_loss()));
}

TEST_CASE("the gradient of a replayed step is that of all its micro-batches", "[replay]") {
  Recipe recipe = each_step_recorded();
  const Dataset data = five_batches();
  const StepReplay whole = Replayed(recipe, data).at(1);
  recipe.micro_batches = 4;
  const StepReplay cut = Replayed(recipe, data).at(1);
  CHECK(cut.samples == whole.samples);
  CHECK(cut.mean_loss() == Approx(whole.mean_loss()).epsilon(1e-5));
  CHECK(cut.gradient_norm == Approx(whole.gradient_norm).epsilon(1e-4));
}

TEST_CASE("large finite gradients count, where the optimizer can hold their squares", "[replay]") {
  Recipe recipe = each_step_recorded();
  recipe.method = "standard";
  recipe.opt = GENERATE("sgd", "adam");
  const Dataset data = five_batches();
  Replayed replayed(recipe, data);
  ParamStore& params = replayed.trainer.model().params();
  // The last layer's bias gradient stays, the weights before it are 0: only its matrix' gradient is
  // as large as its input.
  const auto fill = [&](size_t segment, float value) {
    const View view = params.master(static_cast<ParamId>(segment));
    std::fill_n(view.as<float>(), view.count(), value);
  };
  const size_t last = params.segments().size() - 1;
  fill(last - 1, 0);
  fill(last - 3, 0);
  fill(last - 2, 1e25f);
  params.master_changed(replayed.exec);
  const StepReplay found = replayed.at(1);
  CHECK_FALSE(found.first);
  CHECK(found.gradient_norm > 1e24);
  CHECK(std::isfinite(found.gradient_norm));
  CHECK(found.counts == (recipe.opt == "sgd"));
}

TEST_CASE("a replay refuses steps that training does not have or has left behind", "[replay]") {
  const Recipe recipe = each_step_recorded();
  const Dataset data = five_batches();
  Replayed replayed(recipe, data);
  CHECK(error_of([&] { replayed.at(0); }).find("has steps 1 to 10") != std::string::npos);
  CHECK(error_of([&] { replayed.at(11); }).find("has steps 1 to 10") != std::string::npos);
  replayed.at(3);
  CHECK(error_of([&] { replayed.at(2); }).find("beyond step 2") != std::string::npos);
}
