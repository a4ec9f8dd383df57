// Run folders, progress lines and evaluation files: what is written reads back, and nothing is
// lost.
#include "tools/run_folder.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/files.h"
#include "tests/example_run.h"
#include "tests/temp_folder.h"
#include "tools/evaluation_file.h"
#include "tools/recipe_file.h"
#include "tools/report_data.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

Evaluation read_back(const fs::path& path) { return read_evaluation(path); }

}  // namespace

TEST_CASE("run folder: records read back as written", "[tools]") {
  const TempFolder folder;
  const fs::path path = folder / "runs/deep/one";
  {
    RunFolder run(path, example_recipe(), ExistingRun::kRefuse, quiet());
    train_a_little(run);
  }
  const RunData data = read_run(path);
  REQUIRE(data.recipe.has_value());
  CHECK(to_toml(*data.recipe) == to_toml(example_recipe()));
  REQUIRE(data.epochs.size() == 2);
  CHECK(data.epochs[1].epoch == 2);
  CHECK(data.epochs[1].step == 20);
  CHECK(data.epochs[1].train_loss == 0.75);
  CHECK(data.epochs[1].clean_accuracy == 0.8125);
  CHECK(data.epochs[1].robust_accuracy == 0.4375);
  CHECK(data.epochs[1].seconds == 5.5);
  CHECK(data.epochs[0].best);
  CHECK_FALSE(data.epochs[1].best);
  REQUIRE(data.steps.size() == 2);
  CHECK(std::isnan(data.steps[0].loss));
  CHECK(data.steps[1].loss == 0.75);
  CHECK(data.steps[1].probe_accuracy == 0.5);
  for (size_t i = 0; i < kPhaseNames.size(); ++i)
    CHECK(data.steps[1].phases.at(i) == Approx(PhaseSeconds{0.001, 0.5, 0.25, 0.002}.at(i)));
  CHECK(data.steps[1].memory == 210'000'000);
  CHECK(data.header == "a header <with> brackets");
  CHECK(data.messages == std::vector<std::string>{"the probe fell"});
  for (const std::string& line : {std::string("epoch,step,train_loss"), std::string("1,10,1.25")})
    CHECK_THAT(read_text(path / kSummaryFile), Contains(line));
}

TEST_CASE("run folder: without held-out images there are no accuracies to show", "[tools]") {
  const TempFolder folder;
  {
    RunFolder run(folder / "run", example_recipe(), ExistingRun::kRefuse, quiet());
    EpochRecord epoch;
    epoch.epoch = 1;
    epoch.train_loss = 1.5;
    run.on_epoch(epoch);
  }
  CHECK_THAT(read_text(folder / "run" / kSummaryFile), Contains("1,0,1.5,0,,,0,"));
  CHECK_THAT(read_text(folder / "run" / kMetricsFile), !Contains("robust_accuracy"));
  const RunData data = read_run(folder / "run");
  REQUIRE(data.epochs.size() == 1);
  CHECK_FALSE(data.epochs[0].clean_accuracy);
  CHECK_FALSE(data.epochs[0].robust_accuracy);
  CHECK(data.epochs[0].train_loss == 1.5);
}

TEST_CASE("run folder: an existing run is refused and nothing of it is lost", "[tools]") {
  const TempFolder folder;
  const fs::path path = folder / "run";
  {
    RunFolder run(path, example_recipe(), ExistingRun::kRefuse, quiet());
    train_a_little(run);
  }
  write_text_atomic(path / kBestCheckpoint, "weights");
  write_text_atomic(path / "notes.txt", "mine");
  const std::vector<fs::path> names{kRecipeFile, kSummaryFile, kMetricsFile, kBestCheckpoint,
                                    "notes.txt"};
  std::vector<Bytes> before;
  for (const fs::path& name : names) before.push_back(slurp(path / name));
  Recipe other = example_recipe();
  other.seed = 5;
  CHECK_THAT(error_of([&] { RunFolder(path, other, ExistingRun::kRefuse, quiet()); }),
             Contains(path.string()) && Contains("--overwrite") && Contains(kBestCheckpoint));
  for (size_t i = 0; i < names.size(); ++i) CHECK(slurp(path / names[i]) == before[i]);

  { RunFolder run(path, other, ExistingRun::kOverwrite, quiet()); }
  CHECK(read_recipe(path / kRecipeFile).seed == 5);
  CHECK_FALSE(fs::exists(path / kBestCheckpoint));  // of the old run
  CHECK(read_text(path / "notes.txt") == "mine");   // never ours
}

TEST_CASE("run folder: a run that is being trained is not overwritten", "[tools]") {
  const TempFolder folder;
  const fs::path path = folder / "run";
  {
    RunFolder running(path, example_recipe(), ExistingRun::kRefuse, quiet());
    train_a_little(running);
    write_text_atomic(path / kBestCheckpoint, "weights");
    Recipe other = example_recipe();
    other.seed = 5;
    CHECK_THAT(error_of([&] { RunFolder(path, other, ExistingRun::kOverwrite, quiet()); }),
               Contains(path.string()) && Contains("being trained"));
    CHECK(read_recipe(path / kRecipeFile).seed == 0);
    CHECK(read_text(path / kBestCheckpoint) == "weights");
    train_a_little(running);  // goes on as if nothing had been
  }
  CHECK(read_run(path).epochs.size() == 4);
  RunFolder(path, example_recipe(), ExistingRun::kOverwrite, quiet());
  CHECK(read_run(path).epochs.empty());
}

TEST_CASE("run folder: a link to nowhere is named as one", "[tools]") {
  const TempFolder folder;
  fs::create_symlink(folder / "nowhere", folder / "run");
  CHECK_THAT(error_of([&] {
               RunFolder(folder / "run", example_recipe(), ExistingRun::kOverwrite, quiet());
             }),
             Contains("link") && Contains("not there"));
}

TEST_CASE("run folder: other people's folders and files are never touched", "[tools]") {
  const TempFolder folder;
  fs::create_directory(folder / "home");
  write_text_atomic(folder / "home/letter.txt", "dear");
  for (const auto existing : {ExistingRun::kRefuse, ExistingRun::kOverwrite}) {
    const auto make = [&](const fs::path& at) {
      RunFolder(at, example_recipe(), existing, quiet());
    };
    CHECK_THAT(error_of([&] { make(folder / "home"); }), Contains("no run"));
    CHECK_THAT(error_of([&] { make(folder / "home/letter.txt"); }), Contains("file"));
    CHECK_THAT(error_of([&] { make(folder / "home/letter.txt/run"); }), Contains("cannot"));
  }
  CHECK(read_text(folder / "home/letter.txt") == "dear");
  CHECK(std::distance(fs::directory_iterator(folder / "home"), {}) == 1);
  fs::create_directory(folder / "empty");
  RunFolder(folder / "empty", example_recipe(), ExistingRun::kRefuse, quiet());
  CHECK(fs::exists(folder / "empty" / kRecipeFile));
}

TEST_CASE("progress: a line per epoch in a file, a self-updating one on a terminal", "[tools]") {
  const auto printed = [](bool terminal) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
    {
      Progress progress(file.get(), terminal, 2);
      StepRecord step;
      step.epoch = 0.5, step.loss = 1.5, step.images_per_second = 321, step.eta_seconds = 3725;
      progress.on_step(step);
      progress.on_step(step);
      progress.on_epoch({1, 10, 1.25, 0.5, 0.625, 0.375, 0.1, 1200, 65, true});
      progress.on_message("a message");
    }
    std::string text;
    std::rewind(file.get());
    for (int c; (c = std::fgetc(file.get())) != EOF;) text += static_cast<char>(c);
    return text;
  };
  const std::string plain = printed(false), live = printed(true);
  CHECK(std::count(plain.begin(), plain.end(), '\n') == 2);
  CHECK_THAT(plain, Contains("epoch 1/2") && Contains("62.5 %") && Contains("37.5 %") &&
                        Contains("1:05") && Contains("a message") && !Contains("\r") &&
                        !Contains("\033"));
  CHECK(std::count(live.begin(), live.end(), '\n') == 2);
  CHECK(std::count(live.begin(), live.end(), '\r') == 3);
  CHECK_THAT(live, Contains("321 images/s") && Contains("ETA 1:02:05") && Contains("loss 1.500"));
}

TEST_CASE("evaluation: the file reads back, with keys that scripts rely on", "[tools]") {
  const TempFolder folder;
  const Evaluation e = example_evaluation();
  const fs::path path = folder / "evaluation.json";
  write_evaluation(path, e);
  const auto json = nlohmann::json::parse(read_text(path));
  CHECK(json["clean_accuracy"] == 7.0 / 8);
  CHECK(json["robust_accuracy"] == 5.0 / 8);
  CHECK(json["n"] == 8);
  CHECK(json["attack"]["eps"] == 8.0 / 255);
  CHECK(json["attack"]["steps"] == 50);
  CHECK(json["attack"]["seed"] == 18446744073709551615u);
  CHECK(json["samples"]["robust_correct"] == std::vector<int>{1, 1, 1, 1, 1, 0, 0, 0});
  const Evaluation back = read_back(path);
  CHECK(back.class_names == e.class_names);
  CHECK(back.adversarial_predictions == e.adversarial_predictions);
  CHECK(back.clean_correct == e.clean_correct);
  CHECK(back.seconds == e.seconds);
  CHECK(back.seed == e.seed);
  REQUIRE(back.examples.size() == 2);
  CHECK(back.examples[1].sample == 6);
  CHECK(back.examples[1].x_nat == e.examples[1].x_nat);
  CHECK(back.examples[1].x_adv == e.examples[1].x_adv);
  write_evaluation(folder / "other.json", e);  // another name, other examples
  CHECK(fs::exists(folder / "other.examples.safetensors"));
  CHECK_FALSE(json["attack"].contains("norms"));  // of a network with one set of batch norms
  for (const char* norms : {"main", "auxiliary"}) {
    Evaluation of_two = e;
    of_two.norms = norms;
    write_evaluation(path, of_two);
    CHECK(read_back(path).norms == norms);
  }
}

TEST_CASE("evaluation: only an earlier evaluation is replaced", "[tools]") {
  const TempFolder folder;
  const Evaluation e = example_evaluation();
  const fs::path path = folder / "a.json";
  CHECK_NOTHROW(require_replaceable(path));
  write_evaluation(path, e);
  CHECK_NOTHROW(require_replaceable(path));
  fs::remove(folder / "a.examples.safetensors");  // its images may be missing
  CHECK_NOTHROW(require_replaceable(path));

  spit(folder / "best.safetensors", {1, 2, 3});
  spit(folder / "recipe.toml", {'l', 'r'});
  spit(folder / "b.examples.safetensors", {4});
  fs::create_directory(folder / "c.json");
  for (const char* name : {"best.safetensors", "recipe.toml", "c.json"})
    CHECK_THAT(error_of([&] { require_replaceable(folder / name); }),
               Contains(name) && Contains("not an earlier evaluation"));
  CHECK_THAT(error_of([&] { require_replaceable("/dev/null"); }), Contains("not an earlier"));
  CHECK_THAT(error_of([&] { require_replaceable(folder / "b.json"); }),
             Contains("b.examples.safetensors") && Contains("would be replaced"));
  CHECK_THAT(error_of([&] { require_replaceable(folder / "no/a.json"); }), Contains("no folder"));
  CHECK_THAT(error_of([&] { require_replaceable(folder.path() / ""); }),
             Contains("names a folder"));
}

TEST_CASE("evaluation: damaged files give one sentence that names the file", "[tools]") {
  const TempFolder folder;
  const fs::path path = folder / "evaluation.json";
  write_evaluation(path, example_evaluation());
  const std::string whole = read_text(path);
  for (size_t length = 0; length + 3 < whole.size(); length += 29) {
    write_text_atomic(path, whole.substr(0, length));
    CHECK_THAT(error_of([&] { read_back(path); }), Contains("evaluation.json"));
  }
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    REQUIRE(text.find(from) != std::string::npos);
    text.replace(text.find(from), from.size(), to);
    write_text_atomic(path, text);
    return error_of([&] { read_back(path); });
  };
  CHECK_THAT(changed("\"n\": 8", "\"n\": 9"), Contains("8 entries"));
  CHECK_THAT(changed("\"n\": 8", "\"n\": -8"), Contains("above 0"));
  CHECK_THAT(changed("[0,1,2,0,1,2,0,1]", "[0,1,2,0,1,2,0,3]"), Contains("classes"));
  CHECK_THAT(changed("[0,1,2,0,1,2,0,1]", "[0,1,2,0,1,2,0,-1]"), Contains("classes"));
  CHECK_THAT(changed("\"clean_accuracy\": 0.875", "\"clean_accuracy\": \"x\""), Contains("whole"));
  CHECK_THAT(changed("\"height\":2", "\"height\":3"), Contains("examples.safetensors"));
  CHECK_THAT(changed("\"height\":2", "\"height\":2000000000"), Contains("cannot be shown"));
  write_text_atomic(path, whole);
  write_text_atomic(folder / kExamplesFile, "no tensors");
  CHECK_THAT(error_of([&] { read_back(path); }), Contains(kExamplesFile));
}
