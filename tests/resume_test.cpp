// A training that is stopped and taken up again: the bytes it would have had, whenever it stops.
#include <algorithm>
#include <catch2/catch.hpp>

#include "adversarial/state_files.h"
#include "engine/files.h"
#include "kernels/phase_clock.h"
#include "models/checkpoint.h"
#include "tests/example_run.h"
#include "tests/run_left.h"
#include "tests/scripted_run.h"
#include "tools/report_data.h"
#include "tools/resume.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

Dataset six_batches() { return quarters(32 + 6 * 16); }

Recipe recipe_of(int epochs = 2) {
  Recipe recipe = small_recipe();
  recipe.epochs = epochs;
  recipe.probe_every = 3;
  recipe.log_every = 4;
  recipe.save_every = 0;
  return recipe;
}

// Trains in a folder, by objects of its own as a new process would have them.
class Session {
 public:
  // probes: what the n-th probe of the whole training measures; none: as it is.
  Session(const fs::path& folder, const Recipe& recipe, std::vector<double> probes = {})
      : folder_(folder), recipe_(recipe), data_(six_batches()), probes_(std::move(probes)) {
    exec_.plans().force("direct");
    RobustAccuracy measure;
    if (!probes_.empty())
      measure = [this](Model&, const AttackInput& images, int) {
        const bool probe = images.x_nat.shape().n == recipe_.probe_samples;
        return probe ? probes_.at(probes_seen_++) : 0.5;
      };
    trainer_.emplace(exec_, recipe_, data_, measure);
  }

  // Until `stop` steps are done, or to the end.
  TrainingResult run(int64_t stop = -1) {
    RunFolder folder(folder_, recipe_, resumed_ ? ExistingRun::kResume : ExistingRun::kRefuse,
                     quiet());
    class StopAt final : public TrainingObserver {
     public:
      StopAt(RunFolder& folder, int64_t stop, int64_t steps)
          : folder_(folder), left_(stop < 0 ? -1 : stop - steps) {}
      void on_start(const std::string& header) override { folder_.on_start(header); }
      void on_step(const StepRecord& record) override { folder_.on_step(record); }
      void on_epoch(const EpochRecord& record) override { folder_.on_epoch(record); }
      void on_message(const std::string& sentence) override { folder_.on_message(sentence); }
      void on_end(bool collapsed) override { folder_.on_end(collapsed); }
      std::string on_save() override { return folder_.on_save(); }
      void on_resume(const std::string& header, const std::string& saved, int64_t step) override {
        folder_.on_resume(header, saved, step);
      }
      bool stop_requested() override { return --left_ == 0; }

     private:
      RunFolder& folder_;
      int64_t left_;
    };
    StopAt observer(folder, stop, done_);
    return trainer_->run(folder_, observer);
  }

  void resume(int64_t done) {
    REQUIRE(resume_newest(*trainer_, folder_));
    resumed_ = true;
    done_ = done;
    probes_seen_ = static_cast<size_t>(done / recipe_.probe_every);
  }

  Trainer& trainer() { return *trainer_; }

 private:
  fs::path folder_;
  Recipe recipe_;
  Dataset data_;
  std::vector<double> probes_;
  size_t probes_seen_ = 0;
  Exec exec_;
  std::optional<Trainer> trainer_;
  bool resumed_ = false;
  int64_t done_ = 0;
};

// Writes a state anew with its description, or one of its arrays, changed.
void rewrite(const fs::path& state, const std::function<void(nlohmann::json&)>& description,
             const std::function<void(const NamedArray&, std::vector<std::byte>&)>& array = {}) {
  const SafetensorsFile file = load_safetensors(state);
  auto metadata = file.metadata;
  auto json = nlohmann::json::parse(metadata.at("ringfort.training"));
  description(json);
  metadata["ringfort.training"] = json.dump();
  std::vector<std::vector<std::byte>> contents;
  std::vector<NamedArray> arrays = file.arrays;
  for (NamedArray& each : arrays) {
    contents.emplace_back(each.bytes.begin(), each.bytes.end());
    if (array) array(each, contents.back());
    each.bytes = contents.back();
  }
  save_safetensors(state, arrays, metadata);
}

// Under the sanitizers a few of the 12 steps: the first, an epoch's last, one that is neither.
#ifdef __SANITIZE_ADDRESS__
constexpr int64_t kStopsApart = 5;
#else
constexpr int64_t kStopsApart = 1;
#endif

}  // namespace

TEST_CASE("a training resumed at any step has the bytes of one that was never stopped",
          "[resume]") {
  const TempFolder folder;
  Recipe recipe = recipe_of();
  SECTION("PGD-AT and SGD") {}
  SECTION("AdamW and an average with statistics of its own") {
    recipe.model = "preact_resnet18";
    recipe.opt = "adamw";
    recipe.on_collapse = "continue";  // the probes are real; what they find is up to rounding
    recipe.ema_decay = 0.9;
    recipe.ema_statistics = "re-estimate";
  }
  SECTION("LAMB in micro-batches of mixtures and momentum cycling") {
    recipe.opt = "lamb";
    recipe.decay_all = false;
    recipe.micro_batches = 2;
    recipe.low_momentum = 0.8;
    recipe.mixup = 1.4;
  }
  SECTION("TRADES with weight perturbation from the second epoch on, and LARS") {
    recipe.method = "trades";
    recipe.awp_gamma = 0.01;
    recipe.awp_warmup = 1;
    recipe.opt = "lars";
    recipe.decay_all = false;
    recipe.lr = 5;
  }
  SECTION("steps that are skipped") {
    recipe.opt = "adam";
    recipe.lr = 1e18;  // the third step's logits overflow
    recipe.max_skipped = 100;
    recipe.probe_every = 1000;
    recipe.hold_out = 0;
    recipe.max_steps = 12;
  }
  Session whole(folder / "whole", recipe);
  whole.run();
  const TrainingState state(whole.trainer());
  const Left left(folder / "whole");
  for (int64_t stop = 1; stop <= 12; stop += kStopsApart) {
    INFO("stopped after step " << stop);
    const fs::path path = folder / std::to_string(stop);
    {
      Session first(path, recipe);
      const TrainingResult result = first.run(stop);
      CHECK(result.interrupted);
      CHECK(result.steps == stop);
      REQUIRE(state_files(path).size() == 1);
      CHECK(end_of(path) == RunEnd::kNone);
    }
    Session second(path, recipe);
    second.resume(stop);
    const TrainingResult result = second.run();
    CHECK_FALSE(result.interrupted);
    CHECK(result.steps == 12);
    CHECK(TrainingState(second.trainer()) == state);
    check_equal(Left(path), left);
    CHECK(state_files(path).empty());
    CHECK(end_of(path) == RunEnd::kFinished);
  }
}

TEST_CASE("a training may be stopped again and again", "[resume]") {
  const TempFolder folder;
  const Recipe recipe = recipe_of();
  Session whole(folder / "whole", recipe);
  whole.run();
  const fs::path path = folder / "run";
  Session(path, recipe).run(1);
  for (int64_t stop = 2; stop <= 12; ++stop) {
    Session next(path, recipe);
    next.resume(stop - 1);
    CHECK(next.run(stop).steps == stop);
  }
  Session last(path, recipe);
  last.resume(12);
  last.run();
  CHECK(TrainingState(last.trainer()) == TrainingState(whole.trainer()));
  check_equal(Left(path), Left(folder / "whole"));
}

TEST_CASE("what a collapse goes back to survives a resume", "[resume]") {
  const TempFolder folder;
  Recipe recipe = recipe_of();
  recipe.on_collapse = GENERATE("restore", "stop");
  const std::vector<double> probes = {0.5, 0.6, 0.1, 0.6};  // the third probe collapses
  Session whole(folder / "whole", recipe, probes);
  const TrainingResult result = whole.run();
  CHECK(result.collapsed == (recipe.on_collapse == "stop"));
  CHECK(end_of(folder / "whole") == (result.collapsed ? RunEnd::kCollapsed : RunEnd::kFinished));
  for (const int64_t stop : {3, 5, 6, 7, 8}) {  // before and after the probes at 3 and 6
    INFO("stopped after step " << stop);
    const fs::path path = folder / std::to_string(stop);
    Session(path, recipe, probes).run(stop);
    Session second(path, recipe, probes);
    second.resume(stop);
    CHECK(second.run().collapsed == result.collapsed);
    CHECK(TrainingState(second.trainer()) == TrainingState(whole.trainer()));
    check_equal(Left(path), Left(folder / "whole"));
  }
}

TEST_CASE("two states are kept, and the older serves where the newest is damaged", "[resume]") {
  const TempFolder folder;
  Recipe recipe = recipe_of();
  recipe.save_every = 2;
  Session whole(folder / "whole", recipe_of());
  whole.run();
  const fs::path path = folder / "run";
  Session(path, recipe).run(7);
  const std::vector<fs::path> states = state_files(path);
  REQUIRE(states == std::vector<fs::path>{state_path(path, 7), state_path(path, 6)});
  Bytes bytes = slurp(states[0]);
  bytes[bytes.size() / 2] ^= 1;
  spit(states[0], bytes);
  Session second(path, recipe);
  second.resume(6);
  second.run();
  CHECK(TrainingState(second.trainer()) == TrainingState(whole.trainer()));
  check_equal(Left(path), Left(folder / "whole"));

  Session(folder / "lost", recipe).run(7);
  for (const fs::path& state : state_files(folder / "lost")) spit(state, {1, 2, 3});
  Session third(folder / "lost", recipe);
  CHECK_THAT(error_of([&] { resume_newest(third.trainer(), folder / "lost"); }),
             Contains("no state of the run") && Contains("lost"));
}

TEST_CASE("a state is all that a training from a checkpoint needs", "[resume][replay]") {
  const TempFolder folder;
  const fs::path init = folder / "init.safetensors", path = folder / "run";
  const auto write_init = [&](float mean, uint64_t seed) {
    Recipe recipe = recipe_of();
    recipe.seed = seed;
    Session other(folder / "unused", recipe);
    Model& model = other.trainer().model();
    model.set_normalization({mean}, {0.75f});
    save_checkpoint(init, model, {});
  };
  Recipe recipe = recipe_of();
  recipe.init = init.string();
  write_init(0.125f, 77);
  Session whole(folder / "whole", recipe);
  whole.run();
  CHECK(whole.trainer().model().spec().mean == std::vector<float>{0.125f});
  const StepReplay seen = Session(folder / "unused", recipe).trainer().replay(6, [](int64_t) {});
  Session(path, recipe).run(5);

  SECTION("the file is another") { write_init(0.875f, 78); }
  SECTION("the file is gone") { fs::remove(init); }
  Session replayed(path, recipe);
  replayed.resume(5);
  const StepReplay again = replayed.trainer().replay(6, [](int64_t) {});
  CHECK(again.losses == seen.losses);
  CHECK(again.gradient_norm == seen.gradient_norm);
  Session second(path, recipe);
  second.resume(5);
  second.run();
  CHECK(second.trainer().model().spec().mean == std::vector<float>{0.125f});
  CHECK(TrainingState(second.trainer()) == TrainingState(whole.trainer()));
  check_equal(Left(path), Left(folder / "whole"));
}

TEST_CASE("a state is refused by another training", "[resume]") {
  const TempFolder folder;
  Session(folder / "run", recipe_of()).run(3);
  const fs::path state = state_path(folder / "run", 3);
  const auto refusal = [&](const Recipe& recipe) {
    Session other(folder / "other", recipe);
    return error_of([&] { other.trainer().resume(state); });
  };
  CHECK(refusal(recipe_of()).empty());
  // One that was refused leaves nothing behind: after 2 steps there is no healthy probe yet.
  Session(folder / "early", recipe_of()).run(2);
  Session twice(folder / "twice", recipe_of());
  CHECK_FALSE(error_of([&] {
                Session other(folder / "wide", [] {
                  Recipe recipe = recipe_of();
                  recipe.width = 8;
                  return recipe;
                }());
                other.run(3);
                twice.trainer().resume(state_path(folder / "wide", 3));
              }).empty());
  CHECK_NOTHROW(twice.trainer().resume(state_path(folder / "early", 2)));
  CHECK_THAT(refusal(recipe_of(3)), Contains("has 12 steps, this one 18"));
  Recipe wider = recipe_of();
  wider.width = 8;
  CHECK_THAT(refusal(wider), Contains("'master' does not fit"));
  Session other(folder / "other", recipe_of());
  spit(folder / "not.safetensors", {1, 2});
  CHECK_FALSE(error_of([&] { other.trainer().resume(folder / "not.safetensors"); }).empty());
}

TEST_CASE("a state of another format is refused by its number", "[resume]") {
  const TempFolder folder;
  const fs::path path = folder / "run";
  Session(path, recipe_of()).run(3);
  const fs::path state = state_path(path, 3);
  Session other(folder / "other", recipe_of());
  const auto refusal = [&](const std::function<void(nlohmann::json&)>& change) {
    rewrite(state, change);
    return error_of([&] { other.trainer().resume(state); });
  };
  CHECK(refusal([](auto&) {}).empty());
  CHECK_THAT(refusal([](auto& json) { json["format"] = 0; }), Contains("older version"));
  CHECK_THAT(refusal([](auto& json) { json["format"] = 1000; }),
             Contains("this state has format 1000") && Contains("newer one"));
  CHECK_THAT(refusal([](auto& json) { json.erase("format"); }),
             Contains("this state does not say which format"));
  CHECK_THAT(error_of([&] { resume_newest(other.trainer(), path); }),
             Contains("no state of the run") && Contains("which format"));
}

TEST_CASE("the time that phases took before a stop is told after it", "[resume]") {
  const TempFolder folder;
  const fs::path path = folder / "run";
  Session(path, recipe_of()).run(1);
  constexpr int64_t kLong = int64_t{1} << 60;  // nanoseconds, which no step takes
  rewrite(
      state_path(path, 1), [](auto&) {},
      [&](const NamedArray& array, auto& bytes) {
        if (array.name != "clock") return;
        PhaseClock clock;
        REQUIRE(bytes.size() == sizeof(clock));
        std::memcpy(&clock, bytes.data(), sizeof(clock));
        CHECK(clock.phase == 0);
        for (int64_t& phase : clock.nanoseconds) {
          CHECK(phase > 0);
          phase += kLong;
        }
        std::memcpy(bytes.data(), &clock, sizeof(clock));
      });
  Session second(path, recipe_of());
  second.resume(1);
  second.run();
  const std::vector<StepRecord> steps = read_run(path).steps;
  REQUIRE(steps.size() > 1);
  REQUIRE(steps[0].step == 3);
  for (const double seconds : steps[0].phases)
    CHECK(seconds == Approx(1e-9 * static_cast<double>(kLong) / 3).epsilon(1e-6));
  for (const double seconds : steps[1].phases) CHECK(seconds < 1e6);
}

TEST_CASE("a run is gone on with only by its own recipe", "[resume]") {
  const TempFolder folder;
  Recipe recipe = example_recipe();
  recipe.output = (folder / "run").string();
  TrainCommand command;
  CHECK_FALSE(goes_on(command, recipe));
  command.resume = Resume::kAuto;
  CHECK_FALSE(goes_on(command, recipe));
  command.resume = Resume::kYes;
  CHECK_THAT(error_of([&] { goes_on(command, recipe); }), Contains("holds no run"));
  { RunFolder run(recipe.output, recipe, ExistingRun::kRefuse, quiet()); }
  for (const Resume how : {Resume::kYes, Resume::kAuto}) {
    command.resume = how;
    CHECK(goes_on(command, recipe));
    Recipe moved = recipe;
    moved.data_dir = "elsewhere";
    moved.save_every = 7;
    CHECK(goes_on(command, moved));
    moved.lr = 0.25;
    moved.seed = 9;
    CHECK_THAT(error_of([&] { goes_on(command, moved); }),
               Contains("lr was 0.1 and is 0.25 now, seed was 0 and is 9 now"));
  }
  fs::remove(folder / "run" / kRecipeFile);
  CHECK_THAT(error_of([&] { goes_on(command, recipe); }), Contains("has lost its recipe.toml"));
}

TEST_CASE("a run killed before its recipe was written begins again, a finished one is finished",
          "[resume]") {
  const TempFolder folder;
  TrainCommand command;
  command.resume = Resume::kAuto;
  Recipe recipe = example_recipe();
  recipe.output = folder.path().string();
  spit(folder / kSummaryFile, {});
  CHECK(goes_on(command, recipe));
  spit(folder / kMetricsFile, {});
  CHECK(goes_on(command, recipe));
  { RunFolder run(recipe.output, recipe, ExistingRun::kOverwrite, quiet()); }
  CHECK(fs::exists(folder / kRecipeFile));
  fs::remove(folder / kRecipeFile);  // now there is a line in the summary
  CHECK_THAT(error_of([&] { goes_on(command, recipe); }), Contains("has lost its recipe.toml"));
  spit(folder / kSummaryFile, {});
  spit(state_path(folder.path(), 3), {});
  CHECK_THAT(error_of([&] { goes_on(command, recipe); }), Contains("has lost its recipe.toml"));

  spit(folder / ".report.html.tmp-999999999-0", {1});
  finish(folder.path());
  CHECK(state_files(folder.path()).empty());
  CHECK(fs::exists(folder / kReportFile));
  CHECK_FALSE(fs::exists(folder / ".report.html.tmp-999999999-0"));
  spit(folder / kReportFile, {1});  // whose it is, is not known
  finish(folder.path());
  CHECK(slurp(folder / kReportFile) == Bytes{1});
}

TEST_CASE("what killed writers leave is removed, what living ones write is not", "[resume]") {
  const TempFolder folder;
  const std::string dead = ".best.safetensors.tmp-999999999-0";
  const std::string alive = fmt::format(".best.safetensors.tmp-{}-0", ::getpid());
  for (const std::string& name :
       {dead, alive, std::string(".mine.tmp-x"), std::string("a.tmp-9-0")})
    spit(folder / name, {1});
  remove_unfinished_writes(folder.path());
  CHECK_FALSE(fs::exists(folder / dead));
  CHECK(folder.entries() == 3);
}
