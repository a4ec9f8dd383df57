// The command line: what it is turned into, what is said of mistakes, and the exit codes of the
// real program.
#include "tools/cli.h"

#include <catch2/catch.hpp>
#include <map>

#include "tests/program.h"
#include "tests/temp_folder.h"
#include "tools/machine.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

template <class T>
T parsed(const std::vector<std::string>& arguments) {
  const Command command = parse_command_line(arguments);
  REQUIRE(std::holds_alternative<T>(command));
  return std::get<T>(command);
}

std::string usage_error(const std::vector<std::string>& arguments) {
  try {
    parse_command_line(arguments);
  } catch (const UsageError& error) {
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("cli: train takes every key of the recipe as an option", "[tools]") {
  const auto train = parsed<TrainCommand>({"train", "r.toml", "--eps", "8/255", "--batch-size=64",
                                           "--overwrite", "--min-lr", "-1", "--eps", "4/255"});
  CHECK(train.recipe_file == "r.toml");
  CHECK(train.overwrite);
  std::map<std::string, std::string> overrides;
  for (const Override& flag : train.overrides) overrides[flag.key] = flag.value;
  CHECK(overrides == std::map<std::string, std::string>{
                         {"eps", "4/255"}, {"batch-size", "64"}, {"min-lr", "-1"}});
  for (const RecipeField& field : recipe_fields()) {
    INFO(field.key);
    const auto one = parsed<TrainCommand>({"train", "--" + field.key, "v", "r.toml"});
    REQUIRE(one.overrides.size() == 1);
    CHECK(one.overrides[0].key == field.key);
    CHECK(one.overrides[0].value == "v");
  }
}

TEST_CASE("cli: evaluate has the settings of the strong attack as defaults", "[tools]") {
  const auto plain = parsed<EvaluateCommand>({"evaluate", "runs/a"});
  CHECK(plain.target == "runs/a");
  CHECK(plain.attack == "pgd");
  CHECK_FALSE(plain.attack_steps);
  CHECK_FALSE(plain.restarts);
  CHECK(plain.n == 1000);
  CHECK_FALSE(plain.eps.has_value());
  const auto full = parsed<EvaluateCommand>({"evaluate",
                                             "a.safetensors",
                                             "--attack",
                                             "fgsm-rs",
                                             "--norm",
                                             "L2",
                                             "--eps",
                                             "128/255",
                                             "--attack-alpha",
                                             "0.1",
                                             "--attack-steps",
                                             "20",
                                             "--restarts",
                                             "3",
                                             "--n",
                                             "0",
                                             "--batch-size",
                                             "32",
                                             "--seed",
                                             "18446744073709551615",
                                             "--attack-dtype",
                                             "bfloat16",
                                             "--data-dir",
                                             "d",
                                             "--threads",
                                             "2",
                                             "--device",
                                             "cpu",
                                             "--json",
                                             "x.json"});
  CHECK(full.attack == "fgsm-rs");
  CHECK(full.norm == "L2");
  CHECK(full.eps == 128.0 / 255);
  CHECK(full.attack_alpha == 0.1);
  CHECK(full.attack_steps == 20);
  CHECK(full.restarts == 3);
  CHECK(full.n == 0);
  CHECK(full.batch_size == 32);
  CHECK(full.seed == 18446744073709551615u);
  CHECK(full.attack_dtype == "bfloat16");
  CHECK(full.data_dir == "d");
  CHECK(full.threads == 2);
  CHECK(full.device == "cpu");
  CHECK(full.json == "x.json");
}

TEST_CASE("cli: report, info, help and version", "[tools]") {
  CHECK(parsed<ReportCommand>({"report", "runs/a"}).run == "runs/a");
  const auto info = parsed<InfoCommand>({"info", "--plans"});
  CHECK((info.plans && !info.models));
  CHECK_THAT(parsed<TextCommand>({"--version"}).text, Contains("ringfort "));
  CHECK_THAT(parsed<TextCommand>({"--help"}).text, Contains("train") && Contains("evaluate"));
  const std::string help = parsed<TextCommand>({"train", "--help"}).text;
  for (const RecipeField& field : recipe_fields()) CHECK_THAT(help, Contains("--" + field.key));
}

TEST_CASE("cli: a mistake gives one sentence that names the nearest known word", "[tools]") {
  CHECK_THAT(usage_error({"train", "r.toml", "--batchsize", "3"}),
             Contains("--batchsize") && Contains("--batch-size"));
  CHECK_THAT(usage_error({"train", "r.toml", "--epoch=3"}),
             Contains("--epoch;") && Contains("--epochs"));
  CHECK_THAT(usage_error({"evaluate", "runs/a", "--restart", "3"}), Contains("--restarts"));
  CHECK_THAT(usage_error({"--versoin"}), Contains("--version"));
  CHECK_THAT(usage_error({"trian", "r.toml"}), Contains("'trian'") && Contains("'train'"));
  CHECK_THAT(usage_error({}), Contains("train") && Contains("report"));
  CHECK_THAT(usage_error({"train"}), Contains("RECIPE"));
  CHECK_THAT(usage_error({"train", "r.toml", "--eps"}), Contains("--eps needs a value"));
  CHECK_THAT(usage_error({"evaluate", "a", "--n", "-4"}), Contains("--n") && Contains("'-4'"));
  CHECK_THAT(usage_error({"evaluate", "a", "--norm", "L3"}), Contains("Linf, L2"));
  CHECK_THAT(usage_error({"report", "a", "b"}), Contains("'b'"));
  CHECK_THAT(usage_error({"evaluate", "a", "--attack", "pgd50"}), Contains("fgsm-rs"));
  CHECK_THAT(usage_error({"evaluate", "a", "--attack-steps", "0"}), Contains("--attack-steps"));
  CHECK_THAT(usage_error({"evaluate", "a", "--n", "many"}), Contains("--n"));
  CHECK_THAT(usage_error({"evaluate", "a", "--seed", "-1"}), Contains("--seed"));
  CHECK_THAT(error_of([] {
               parse_command_line({"evaluate", "a", "--eps", "8/"});
             }),
             Contains("--eps"));
}

TEST_CASE("cli: the program fails with one sentence and the right exit code", "[tools]") {
  const TempFolder folder;
  const std::string recipe = (folder / "r.toml").string();
  const std::string broken = "data-dir = \"d\"\neps = 8\n";
  spit(recipe, {broken.begin(), broken.end()});
  check_complaint(run_program("train " + recipe), 1, recipe + ":2: eps");
  check_complaint(run_program("train " + recipe + " --eps x"), 1, "--eps");
  check_complaint(run_program("train " + (folder / "absent.toml").string()), 1, "absent.toml");
  check_complaint(run_program("train " + recipe + " --epoch 3"), 2, "--epochs");
  check_complaint(run_program("report " + folder.path().string()), 1, "holds no run");
  check_complaint(run_program(""), 2, "name a command");
  const Outcome version = run_program("--version");
  CHECK(version.exit_code == 0);
  CHECK_THAT(version.output, Catch::StartsWith("ringfort "));
  CHECK(folder.entries() == 1);  // nothing else was created
}

TEST_CASE("cli: a training that no memory holds is refused before its folder is made", "[tools]") {
  const TempFolder folder;
  const Outcome outcome = run_program("train " RINGFORT_TEST_DATA
                                      "/../../recipes/quickstart.toml --model preact_resnet18"
                                      " --width 512 --batch-size 50000 --output " +
                                      (folder / "run").string());
  check_complaint(outcome, 1, "batches of 50000 need");
  CHECK(folder.entries() == 0);
}

TEST_CASE("far more threads than cores are refused", "[tools]") {
  CHECK_THAT(error_of([] { open_exec("cpu", 100000); }),
             Contains("--threads") && Contains("0 for all cores"));
  CHECK(open_exec("cpu", 3)->threads() == 3);
}
