// Recipes: fractions, sections, flags, ranges, the resolved file, and what is said of mistakes.
#include <catch2/catch.hpp>

#include "tests/temp_folder.h"
#include "tools/nearest.h"
#include "tools/recipe_file.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;
using Catch::StartsWith;

namespace {

std::filesystem::path written(const TempFolder& folder, const std::string& text) {
  const auto path = folder / "recipe.toml";
  spit(path, {text.begin(), text.end()});
  return path;
}

// A whole recipe with `text` in front of what every recipe needs.
Recipe read(const std::string& text, const std::vector<Override>& overrides = {}) {
  const TempFolder folder;
  return read_recipe(written(folder, text + "\n[data]\ndata-dir = \"images\"\n"), overrides);
}

std::string refusal(const std::string& text, const std::vector<Override>& overrides = {}) {
  return error_of([&] { read(text, overrides); });
}

std::string as_toml(const Override& flag) {
  Recipe recipe;
  apply_override(recipe, flag.key, flag.value);
  for (const RecipeField& field : recipe_fields())
    if (field.key == flag.key) return flag.key + " = " + toml_value(recipe, field);
  return {};
}

// Equal field by field, exactly.
void check_equal(const Recipe& a, const Recipe& b) {
  for (const RecipeField& field : recipe_fields()) {
    INFO(field.key);
    std::visit([&](auto member) { CHECK(a.*member == b.*member); }, field.member);
  }
}

}  // namespace

TEST_CASE("recipe: fractions are understood wherever a real number is expected", "[tools]") {
  CHECK(parse_real("--eps", "8/255") == 8.0 / 255);
  CHECK(parse_real("--eps", " 8 / 255 ") == 8.0 / 255);
  CHECK(parse_real("--eps", "2.5e-1") == 0.25);
  const Recipe recipe = read(
      "eps = \"8/255\"\nattack-alpha = \"10/255\"\nlr = \"1/10\"\n"
      "decay-milestones = [\"1/2\", 0.75]");
  CHECK(recipe.eps == 8.0 / 255);
  CHECK(recipe.attack_alpha == 10.0 / 255);
  CHECK(recipe.lr == 0.1);
  CHECK(recipe.decay_milestones == std::vector<double>{0.5, 0.75});
  for (const char* wrong :
       {"", "8/", "/255", "8/0", "8/255/2", "x", "nan", "inf", "1e999", "8 255"})
    CHECK_THAT(error_of([&] { parse_real("--eps", wrong); }), StartsWith("--eps"));
}

TEST_CASE("recipe: real numbers are written in their shortest exact form", "[tools]") {
  CHECK(format_real(8.0 / 255) == "8/255");
  CHECK(format_real(0.5 / 255) == "0.5/255");
  CHECK(format_real(0.2) == "0.2");  // and not 51/255
  CHECK(format_real(1) == "1");
  CHECK(format_float(0.1f) == "0.1");
  CHECK(format_float(static_cast<float>(8.0 / 255) / 4) == "2/255");
  for (const double value : {8.0 / 255, 1.25 * 8 / 255, 0.1, 1e-30, 1.0 / 3, 12345.678, 0.0})
    CHECK(parse_real("value", format_real(value)) == value);
}

TEST_CASE("recipe: sections only group, and flags win over the file", "[tools]") {
  const Recipe recipe = read(
      "epochs = 3\n[attack]\nmomentum = 0.5\nnorm = \"linf\"\neps = 0.1\n"
      "[optimizer]\nnesterov = true\nlr = 1",
      {{"epochs", "7"},
       {"eps", "4/255"},
       {"nesterov", "false"},
       {"sched", "piecewise"},
       {"decay-milestones", "0.3,2/3"},
       {"seed", "18"}});
  CHECK(recipe.epochs == 7);
  CHECK(recipe.eps == 4.0 / 255);
  CHECK(recipe.momentum == 0.5);
  CHECK(recipe.norm == "Linf");
  CHECK_FALSE(recipe.nesterov);
  CHECK(recipe.lr == 1);
  CHECK(recipe.decay_milestones == std::vector<double>{0.3, 2.0 / 3});
  CHECK(recipe.seed == 18);
  CHECK(recipe.batch_size == Recipe{}.batch_size);  // what nobody named keeps its default
}

TEST_CASE("recipe: the resolved file reads back as an equal recipe", "[tools]") {
  Recipe recipe;
  recipe.data_dir = "/data/with \"quotes\", back\\slash and äöü";
  recipe.eps = 4.0 / 255;
  recipe.attack_alpha = 1.25 * 4.0 / 255;
  recipe.lr = 1.0 / 3;
  recipe.seed = 9223372036854774784u;
  recipe.nesterov = true;
  recipe.max_steps = 123456789012;
  recipe.decay_milestones = {1.0 / 3, 0.5, 1};
  recipe.device = "cuda:3";
  const TempFolder folder;
  check_equal(read_recipe(written(folder, to_toml(recipe))), recipe);
  recipe.decay_milestones = {};
  check_equal(read_recipe(written(folder, to_toml(recipe))), recipe);
}

TEST_CASE("recipe: a flag that changes nothing is refused, a key of a file is told of", "[tools]") {
  struct Case {
    Override idle;
    std::vector<Override> without;  // beside these it has no effect
    std::string counts_for;
    std::vector<Override> with = {};  // beside these it has
  };
  const std::vector<Case> cases = {
      {{"image-size", "64"},
       {{"dataset", "mnist"}},
       "images in files",
       {{"dataset", "webdataset"}}},
      {{"workers", "3"}, {{"dataset", "mnist"}}, "images in files", {{"dataset", "image-folder"}}},
      {{"crop-pad", "2"}, {{"augment", "none"}}, "crop-flip", {{"augment", "crop-flip"}}},
      {{"attack-alpha", "0.1"}, {{"method", "standard"}}, "an attack"},
      {{"attack-steps", "3"}, {{"method", "standard"}}, "an attack"},
      {{"attack-bn", "eval"}, {{"method", "standard"}}, "an attack"},
      {{"beta", "2"}, {{"method", "pgd-at"}}, "trades", {{"method", "trades"}}},
      {{"awp-warmup", "1"}, {{"awp-gamma", "0"}}, "awp-gamma", {{"awp-gamma", "0.01"}}},
      {{"lr-base-scale", "sqrt"}, {{"lr-base-size", "0"}}, "lr-base-size", {{"lr-base-size", "9"}}},
      {{"momentum", "0.5"}, {{"opt", "adam"}}, "sgd and lars", {{"opt", "sgd"}}},
      {{"nesterov", "true"},
       {{"opt", "adamw"}},
       "sgd and lars",
       {{"opt", "lars"}, {"weight-decay", "0"}}},
      {{"low-momentum", "0.5"}, {{"sched", "cosine"}}, "cyclic", {{"sched", "one-cycle"}}},
      {{"decay-all", "false"}, {{"weight-decay", "0"}}, "weight-decay"},
      {{"opt-betas", "0.8,0.9"}, {{"opt", "sgd"}}, "adam, adamw and lamb", {{"opt", "adamw"}}},
      {{"opt-eps", "1e-3"},
       {{"opt", "sgd"}},
       "any opt but sgd",
       {{"opt", "lars"}, {"weight-decay", "0"}}},
      {{"bias-correction", "false"},
       {{"opt", "sgd"}},
       "adam, adamw and lamb",
       {{"opt", "lamb"}, {"weight-decay", "0"}}},
      {{"trust-coefficient", "0.1"},
       {{"opt", "adam"}},
       "lars",
       {{"opt", "lars"}, {"weight-decay", "0"}}},
      {{"trust-all", "true"},
       {{"opt", "adam"}},
       "lars and lamb",
       {{"opt", "lamb"}, {"weight-decay", "0"}}},
      {{"trust-clip", "10"}, {{"opt", "sgd"}}, "lamb", {{"opt", "lamb"}, {"weight-decay", "0"}}},
      {{"sched-peak", "0.5"}, {{"sched", "constant"}}, "cyclic", {{"sched", "cyclic"}}},
      {{"sched-power", "3"}, {{"sched", "cosine"}}, "polynomial", {{"sched", "polynomial"}}},
      {{"div-factor", "9"}, {{"sched", "cyclic"}}, "one-cycle", {{"sched", "one-cycle"}}},
      {{"final-div-factor", "9"}, {{"sched", "cyclic"}}, "one-cycle", {{"sched", "one-cycle"}}},
      {{"decay-milestones", "0.1"}, {{"sched", "cyclic"}}, "piecewise", {{"sched", "piecewise"}}},
      {{"decay-rate", "0.5"}, {{"sched", "cyclic"}}, "piecewise", {{"sched", "piecewise"}}},
      {{"min-lr", "0.01"}, {{"sched", "cyclic"}}, "cosine and polynomial", {{"sched", "cosine"}}},
      {{"ema-warmup", "0.5"}, {{"ema-decay", "0"}}, "ema-decay", {{"ema-decay", "0.9"}}},
      {{"ema-statistics", "re-estimate"},
       {{"ema-decay", "0"}},
       "ema-decay",
       {{"ema-decay", "0.9"}}},
      {{"probe-samples", "9"}, {{"probe-every", "0"}}, "probe-every"},
      {{"collapse-drop", "0.5"}, {{"method", "standard"}}, "an attack"},
      {{"on-collapse", "restore"}, {{"probe-every", "0"}}, "probe-every"},
      {{"val-attack-steps", "3"}, {{"hold-out", "0"}, {"probe-every", "0"}}, "hold-out"},
  };
  for (const auto& [idle, without, counts_for, with] : cases) {
    INFO(idle.key << " beside " << without.front().key << " " << without.front().value);
    std::vector<Override> flags = without;
    flags.push_back(idle);
    CHECK_THAT(refusal("", flags), Contains("--" + idle.key + ": ") &&
                                       Contains("has no effect here") && Contains(counts_for));
    const auto told = without_effect(read(as_toml(idle), without));
    REQUIRE(told.size() == 1);
    CHECK(told[0].key == idle.key);
    CHECK_THAT(told[0].counts_for, Contains(counts_for));
    CHECK(without_effect(read(as_toml(idle), with)).empty());
    flags = with;
    flags.push_back(idle);
    CHECK_NOTHROW(read("", flags));
  }
  CHECK(without_effect(Recipe{}).empty());
  CHECK_NOTHROW(read("", {{"method", "pgd-at"}, {"beta", "6"}}));  // as it is by default
}

TEST_CASE("recipe: those that come with the program are valid and name what there is", "[tools]") {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(RINGFORT_TEST_DATA "/../../recipes")) {
    INFO(entry.path());
    CHECK(entry.path().extension() == ".toml");
    Recipe recipe;
    CHECK_NOTHROW(recipe = read_recipe(entry.path(), std::vector<Override>{{"data-dir", "d"}}));
    CHECK(recipe.output == "runs/" + entry.path().stem().string());
    CHECK(without_effect(recipe).empty());
    ++count;
  }
  CHECK(count >= 2);
}

TEST_CASE("recipe: data sets and networks are those that are registered", "[tools]") {
  CHECK_THAT(refusal("dataset = \"cifar\""), Contains("fashion-mnist, mnist, cifar10"));
  CHECK_THAT(refusal("model = \"resnet\""),
             Contains("cnn_small, mnist_net, preact_resnet18") && Contains("wrn_28_10"));
  CHECK(read("dataset = \"CIFAR10\"").dataset == "cifar10");
}

TEST_CASE("recipe: every field appears once and its default is valid", "[tools]") {
  Recipe recipe;
  recipe.data_dir = "images";
  validate(recipe);
  for (const RecipeField& field : recipe_fields()) {
    const auto same = [&](const RecipeField& other) { return other.key == field.key; };
    CHECK(std::count_if(recipe_fields().begin(), recipe_fields().end(), same) == 1);
    CHECK_THAT(to_toml(recipe), Contains("\n" + field.key + " = "));
    CHECK_FALSE(field.help.empty());
  }
}

TEST_CASE("recipe: an unknown key names the nearest known one, with its line", "[tools]") {
  CHECK_THAT(refusal("epochs = 3\nbatch_size = 64"),
             Contains("recipe.toml:2") && Contains("'batch_size'") && Contains("'batch-size'"));
  CHECK_THAT(refusal("[attack]\nsteps = 3"),
             Contains("recipe.toml:2") && Contains("'attack-steps'"));
  CHECK_THAT(refusal("[atack]\neps = 0.1"), Contains(":1") && Contains("[attack]"));
  CHECK_THAT(refusal("", {{"epoch", "3"}}), Contains("--epoch;") && Contains("--epochs"));
  CHECK(nearest("Weight_Decay", std::vector<std::string>{"lr", "weight-decay"}) == "weight-decay");
}

TEST_CASE("recipe: eps above 1 for Linf is refused with the hint of a fraction", "[tools]") {
  CHECK_THAT(refusal("eps = 8"),
             Contains("recipe.toml:1") && Contains("[0, 1]") && Contains("8/255"));
  CHECK_THAT(refusal("", {{"eps", "16"}}), StartsWith("--eps") && Contains("16/255"));
  CHECK_THAT(refusal("attack-alpha = 2"), Contains("attack-alpha") && Contains("2/255"));
  CHECK_THAT(refusal("eps = 1.5"), Contains("1.5"));
  CHECK(read("eps = 1").eps == 1);
  CHECK(read("eps = 8\nnorm = \"L2\"").eps == 8);         // L2 has no such bound
  CHECK(read("eps = 8", {{"norm", "L2"}}).norm == "L2");  // judged after the flags
  CHECK_THAT(refusal("eps = 0"), Contains("standard"));
  CHECK_THAT(refusal("natural-weight = -0.5"), Contains("-0.5 is negative"));
  CHECK(read("eps = 0\nmethod = \"standard\"").eps == 0);
}

TEST_CASE("recipe: wrong types and ranges name the place", "[tools]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"batch-size = 0", "batch-size"},
      {"batch-size = 64.0", "whole number"},
      {"batch-size = \"64\"", "whole number"},
      {"batch-size = 4294967297", "range"},  // would become 1 in 32 bits
      {"lr = true", "number"},
      {"lr = 0", "above 0"},
      {"momentum = 1", "from 0 and below 1"},
      {"lr = nan", "range"},
      {"lr = inf", "range"},
      {"seed = -1", "range"},
      {"nesterov = 1", "true or false"},
      {"dataset = 5", "text"},
      {"norm = \"L3\"", "Linf, L2"},
      {"sched = 1979-05-27", "text"},
      {"decay-milestones = 0.5", "list"},
      {"decay-milestones = [0.5, 2]", "range"},
      {"decay-milestones = [0.75, 0.5]", "increase"},
      {"device = \"cuda:x\"", "cuda:N"},
      {"output = \"a\\u0000b\"", "control"},
      {"probe-samples = 5000", "hold-out"},
      {"lr = { a = 1 }", "recipe.toml:2"}};
  for (const auto& [text, expected] : cases) {
    INFO(text);
    CHECK_THAT(refusal("\n" + text), Contains("recipe.toml:2") && Contains(expected));
  }
  const std::vector<Override> flags = {
      {"batch-size", "64x"}, {"batch-size", ""},           {"seed", "99999999999999999999"},
      {"nesterov", "yes"},   {"decay-milestones", "0.5,"}, {"output", ""},
      {"output", "\xff\xfe"}};
  for (const Override& flag : flags) {
    INFO(flag.key << " " << flag.value);
    CHECK_THAT(refusal("", {flag}), StartsWith("--" + flag.key));
  }
}

TEST_CASE("recipe: broken files give one sentence with the line", "[tools]") {
  CHECK_THAT(refusal("epochs = 3\nepochs = 4"), Contains("recipe.toml:2"));
  CHECK_THAT(refusal("epochs = 3\n[optimizer]\nepochs = 4"), Contains(":3") && Contains("twice"));
  CHECK_THAT(refusal("epochs = 3\nlr ="), Contains("recipe.toml:2"));
  CHECK_THAT(refusal("dataset = \"cif"), Contains("recipe.toml:1"));
  CHECK_THAT(refusal("[`data]"), Contains("recipe.toml: this is not valid TOML"));
  const TempFolder folder;
  const std::string whole = to_toml(read(""));
  for (size_t length = 0; length < whole.size(); length += 7) {  // truncated anywhere
    const auto path = written(folder, whole.substr(0, length));
    const std::string error = error_of([&] { read_recipe(path); });
    // Cut between two lines it is a shorter recipe; it may then lack its data-dir.
    if (!error.empty()) CHECK_THAT(error, Contains("recipe.toml:"));
  }
  Bytes garbage(4096);
  for (size_t i = 0; i < garbage.size(); ++i) garbage[i] = static_cast<uint8_t>(i * 131 + 7);
  spit(folder / "garbage.toml", garbage);
  CHECK_THAT(error_of([&] { read_recipe(folder / "garbage.toml"); }), Contains("garbage.toml:"));
  spit(folder / "huge.toml", Bytes((1u << 20) + 1, '#'));
  CHECK_THAT(error_of([&] { read_recipe(folder / "huge.toml"); }), Contains("huge.toml"));
  CHECK_THAT(error_of([&] { read_recipe(folder / "absent.toml"); }), Contains("absent.toml"));
  CHECK_THAT(error_of([&] { read_recipe(folder.path()); }), Contains(folder.path().string()));
  CHECK_THAT(error_of([&] { read_recipe(written(folder, "")); }), Contains("data-dir"));
}
