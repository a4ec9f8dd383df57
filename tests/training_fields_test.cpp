// Every field of a recipe reaches training, or is known not to change what is learnt.
#include <catch2/catch.hpp>
#include <set>

#include "models/checkpoint.h"
#include "tests/scripted_run.h"
#include "tools/recipe_file.h"

using namespace ringfort;
using namespace ringfort::test;

namespace {

// Six steps in two epochs.
Dataset three_batches() { return quarters(32 + 3 * 16); }

struct Change {
  std::string key, value;
  std::vector<Override> beside = {};  // set in both runs, so that the field has something to say
};

// Gradients of an L2 attack matter in every bit, those of a Linf attack by their signs alone.
const Override kL2 = {"norm", "L2"}, kNormed = {"model", "preact_resnet18"};

// Fields that change the weights after six steps. Everything else must leave them alone.
const std::vector<Change> kChanges = {
    {"hold-out", "31"},
    {"augment", "none"},
    {"crop-pad", "3"},
    {"cutout", "3"},
    {"pseudo-share", "0.25"},
    {"mixup", "1.4"},
    {"mixup", "1.4", {{"method", "standard"}}},
    {"mixup", "1.4", {{"method", "trades"}}},
    {"model", "preact_resnet18"},
    {"width", "6"},
    {"init", "start.safetensors"},
    {"method", "fast-at", {{"attack-steps", "2"}, {"attack-alpha", "0.1"}, kNormed}},
    {"method", "standard"},
    {"norm", "L2"},
    {"eps", "0.05", {{"attack-alpha", "0.1"}}},
    {"attack-alpha", "0.01"},
    {"attack-steps", "3", {{"attack-alpha", "0.03"}}},
    {"attack-bn", "train", {kNormed}},
    {"attack-bn", "train-track", {kNormed, {"attack-bn", "train"}}},
    {"epochs", "3"},
    {"max-steps", "4"},
    {"batch-size", "12"},
    {"lr", "0.06"},
    {"momentum", "0.8"},
    {"nesterov", "true"},
    {"weight-decay", "0.001"},
    {"decay-all", "false"},
    {"clip-grad", "0.01"},
    {"sched", "constant"},
    {"sched", "piecewise"},
    {"sched", "cosine"},
    {"sched", "one-cycle"},
    {"sched", "polynomial"},
    {"sched-peak", "0.6"},
    {"sched-peak", "0.6", {{"sched", "one-cycle"}}},
    {"sched-power", "3", {{"sched", "polynomial"}}},
    {"div-factor", "10", {{"sched", "one-cycle"}}},
    {"final-div-factor", "2", {{"sched", "one-cycle"}}},
    {"low-momentum", "0.8"},
    {"lr-base-size", "64"},
    {"lr-base-scale", "sqrt", {{"lr-base-size", "64"}}},
    {"micro-batches", "2", {kNormed}},
    {"opt", "lars", {{"decay-all", "false"}}},
    {"opt", "adam"},
    {"opt", "adamw", {{"opt", "adam"}, {"weight-decay", "0.1"}}},
    {"opt", "lamb", {{"opt", "adamw"}, {"decay-all", "false"}}},
    {"opt-betas", "0.8,0.999", {{"opt", "adam"}}},
    {"opt-betas", "0.9,0.9", {{"opt", "adam"}}},
    {"opt-eps", "0.01", {{"opt", "adam"}}},
    {"bias-correction", "false", {{"opt", "adamw"}}},
    {"trust-coefficient", "0.1", {{"opt", "lars"}, {"decay-all", "false"}}},
    {"trust-all", "true", {{"opt", "lamb"}, {"weight-decay", "0"}}},
    {"trust-clip", "0.01", {{"opt", "lamb"}, {"decay-all", "false"}}},
    {"method", "trades"},
    {"beta", "2", {{"method", "trades"}}},
    {"auxiliary-norms", "true", {{"method", "trades"}, kNormed}},
    {"auxiliary-norms", "true", {{"method", "dat"}, kNormed}},
    {"method", "dat"},
    {"method", "dat-fgsm", {{"attack-steps", "1"}, {"attack-alpha", "0.1"}, kNormed}},
    {"natural-weight", "0.5", {{"method", "dat"}}},
    {"natural-weight", "0.5", {{"method", "dat-fgsm"}}},
    {"mixup", "1.4", {{"method", "dat"}}},
    {"label-smoothing", "0.1", {{"method", "dat"}}},
    {"label-smoothing", "0.1"},
    {"awp-gamma", "0.01"},
    {"awp-warmup", "1", {{"awp-gamma", "0.01"}}},
    {"ema-decay", "0.9"},
    {"ema-warmup", "0.5", {{"ema-decay", "0.9"}}},
    {"decay-milestones", "0.2,0.9", {{"sched", "piecewise"}}},
    {"decay-rate", "0.5", {{"sched", "piecewise"}}},
    {"warmup-epochs", "1"},
    {"min-lr", "0.01", {{"sched", "cosine"}}},
    {"dtype", "bfloat16", {{"attack-dtype", "float32"}}},
    {"attack-dtype", "bfloat16", {kL2}},
    {"seed", "7"}};

// Those of pseudo-labelled images, which the caller loads.
const std::vector<Override> kPseudo = {
    {"pseudo-dataset", "mnist"}, {"pseudo-data-dir", "there"}, {"pseudo-labels", "p.safetensors"}};

// Fields about measuring, about where and how fast, and those that others act upon: the caller
// loads the data, at the image size, and opens the device.
const std::vector<Change> kNoChanges = {
    {"dataset", "mnist"},
    {"data-dir", "elsewhere"},
    {"probe-every", "3"},
    {"probe-samples", "4"},
    {"collapse-drop", "0.5"},
    {"on-collapse", "restore"},
    {"device", "cpu"},
    {"val-attack-steps", "5"},
    {"threads", "1"},
    {"log-every", "1"},
    {"tf32", "true"},
    {"output", "somewhere/else"},
    {"save-every", "3"},
    {"image-size", "48"},
    {"workers", "3"},
    {"pseudo-dataset", "cifar10", kPseudo},
    {"pseudo-data-dir", "elsewhere", kPseudo},
    {"pseudo-labels", "q.safetensors", kPseudo},
    {"pseudo-confidence", "0.9", kPseudo},
    {"max-skipped", "1"},
    // between ranks, of which there is one here (tests/ranks_training_test.cpp has several)
    {"batch-per-rank", "8"},
    {"compressor", "natural"},
    {"compressor-bits", "4", {{"compressor", "qsgd"}}},
    {"compressor-bucket", "64", {{"compressor", "qsgd"}}},
    {"compressor-norm", "l2", {{"compressor", "qsgd"}}},
    {"compressor-share", "0.5", {{"compressor", "top-k"}}},
    {"compressor-rank", "1", {{"compressor", "power-sgd"}}},
    {"error-feedback", "true", {{"compressor", "natural"}}},
    {"exchange", "gather"},
    {"hierarchy", "flat"},
    {"bucket-mb", "1"},
    {"norm-statistics", "joint"},
    {"comm", "threads"},
    {"comm-timeout", "10"},
    // of the average's checkpoint
    {"ema-statistics", "re-estimate", {{"ema-decay", "0.9"}}},
};

// A checkpoint that fits the small recipe's model.
void save_other_weights(const std::filesystem::path& path) {
  Recipe recipe = small_recipe();
  recipe.seed = 99;
  Exec exec;
  Trainer trainer(exec, recipe, three_batches());
  save_checkpoint(path, trainer.model(), {});
}

// State after training, and what its attack was.
TrainingState trained(const Change& change, bool changed) {
  Recipe recipe = small_recipe();
  recipe.data_dir = "images";
  for (const Override& field : change.beside) apply_override(recipe, field.key, field.value);
  if (changed) apply_override(recipe, change.key, change.value);
  validate(recipe);
  const TempFolder folder;
  if (!recipe.init.empty()) {
    recipe.init = (folder / recipe.init).string();
    save_other_weights(recipe.init);
  }
  Dataset data = three_batches();
  if (change.key == "pseudo-share") {
    data.pseudo_count = 16;
    data.pseudo_samples = {70, 71, 72, 73, 74, 75, 76, 77, 78, 79};
  }
  return ScriptedRun(recipe, data, {}).now();
}

}  // namespace

TEST_CASE("every recipe field that concerns training reaches it, and no other does",
          "[trainer][slow]") {
  for (const Change& change : kChanges) {
    INFO(change.key << " " << change.value);
    CHECK_FALSE(trained(change, true) == trained(change, false));
  }
  for (const Change& change : kNoChanges) {
    INFO(change.key << " " << change.value);
    CHECK(trained(change, true) == trained(change, false));
  }
}

TEST_CASE("every recipe field is known to reach training or not to", "[trainer]") {
  std::set<std::string> known;
  for (const auto& changes : {kChanges, kNoChanges})
    for (const Change& change : changes) known.insert(change.key);
  for (const RecipeField& field : recipe_fields()) {
    INFO(field.key);
    CHECK(known.count(field.key) == 1);
  }
}
