// `ringfort replay`: one step of a run again, taken apart.
#include <fmt/ranges.h>

#include "adversarial/state_files.h"
#include "adversarial/trainer.h"
#include "tools/commands.h"
#include "tools/machine.h"
#include "tools/run_folder.h"
#include "tools/training_data.h"

namespace ringfort {
namespace {

// From the newest state before the step that can be read; without one, from the beginning.
std::string take_up(Trainer& trainer, const ReplayCommand& command) {
  const auto states = state_files(command.run, command.step);
  for (const auto& path : states) try {
      trainer.resume(path);
      return fmt::format("from the state after step {}", trainer.steps_done());
    } catch (const Error& error) {
      fmt::print(stderr, "ringfort: {}\n", error.what());
    }
  return fmt::format("from the beginning, because no state before it {}",
                     states.empty() ? "is kept" : "can be read");
}

// Images whose loss is not finite, the first few.
std::string bad_images(const StepReplay& replay) {
  constexpr size_t kShown = 8;
  std::vector<int64_t> bad;
  for (size_t i = 0; i < replay.losses.size(); ++i)
    if (!std::isfinite(replay.losses[i])) bad.push_back(replay.samples[i]);
  if (bad.empty()) return "the loss of every image is finite";
  const bool more = bad.size() > kShown;
  const std::span<const int64_t> shown(bad.data(), std::min(bad.size(), kShown));
  return fmt::format("{} of {} images have no finite loss: training images {}{}", bad.size(),
                     replay.losses.size(), fmt::join(shown, ", "), more ? ", ..." : "");
}

void print(const StepReplay& replay) {
  fmt::print("Step {}, in epoch {}: {} images, learning rate {:.4g}\n", replay.step, replay.epoch,
             replay.samples.size(), replay.lr);
  if (!replay.first) {
    fmt::print("All values are finite: mean loss {:.4f}, norm of the gradient {:.4g}\n",
               replay.mean_loss(), replay.gradient_norm);
    if (!replay.counts)
      fmt::print(
          "The step is skipped all the same: float32 means of squares cannot hold such a gradient; "
          "lower --lr or give --clip-grad\n");
    return;
  }
  const NotFinite& first = *replay.first;
  fmt::print("The first numbers that are not finite: {} of {} in {} ({} {})\n", first.count,
             first.shape.count(), first.what, to_string(first.dtype), to_string(first.shape));
  fmt::print("{}\n", bad_images(replay));
}

}  // namespace

int run_replay(const ReplayCommand& command) {
  const std::filesystem::path file = command.run / kRecipeFile;
  std::error_code none;
  require(std::filesystem::exists(file, none), "replay: '{}' is no run folder: it has no {}",
          command.run.string(), kRecipeFile);
  const std::string imported = imported_from(command.run);
  require(imported.empty(),
          "replay: the weights in '{}' were imported from {} and not trained here, so there is no "
          "step to replay",
          command.run.string(), imported);
  Recipe recipe = read_recipe(file);
  if (command.data_dir) recipe.data_dir = *command.data_dir;
  if (command.device) recipe.device = *command.device;
  if (command.threads) recipe.threads = *command.threads;
  const std::unique_ptr<Exec> exec = open_exec(recipe.device, recipe.threads);
  exec->allow_tf32(recipe.tf32);
  const Dataset data = load_training_data(recipe);
  Trainer trainer(*exec, recipe, data);
  trainer.require_step(command.step);
  fmt::print("Going to step {} {}\n", command.step, take_up(trainer, command));
  print(trainer.replay(command.step, [&](int64_t done) {
    if (done % recipe.log_every == 0) fmt::print("step {} of {}\n", done, command.step);
  }));
  return 0;
}

}  // namespace ringfort
