// `ringfort train`: recipe -> run folder.
#include <fmt/ranges.h>

#include <new>

#include "adversarial/trainer.h"
#include "kernels/device_memory.h"
#include "kernels/onednn.h"
#include "tools/commands.h"
#include "tools/machine.h"
#include "tools/progress.h"
#include "tools/report.h"
#include "tools/resume.h"
#include "tools/run_folder.h"
#include "tools/stop_signal.h"

namespace ringfort {
namespace {

void warn_of_emulation(TrainingObserver& observer, const Recipe& recipe) {
  const bool bfloat16 = recipe.dtype == "bfloat16" || attack_dtype(recipe) == Dtype::kBFloat16;
  if (bfloat16 && !cpu_has_bfloat16())
    observer.on_message(
        "this CPU has no bfloat16 instructions: they are emulated, float32 is faster here");
}

// Keys of the recipe's file that flags, or the file itself, leave without effect.
void tell_without_effect(TrainingObserver& observer, const Recipe& recipe) {
  std::vector<std::string> all;
  for (const WithoutEffect& idle : without_effect(recipe))
    all.push_back(fmt::format("{} = {} (it is for {})", idle.key, idle.value, idle.counts_for));
  if (!all.empty())
    observer.on_message(fmt::format("without effect in this recipe: {}", fmt::join(all, ", ")));
}

// Where memory runs out, the batch that fits is named: into what the tensors have and what is free.
TrainingResult run_in_memory(std::unique_ptr<Trainer> trainer, RunFolder& folder,
                             const Recipe& recipe, const Dataset& data, Device device) {
  const auto refusal = [&](const OutOfMemory& error) {
    const int64_t bytes = trainer->memory().total() + free_memory(device).value_or(0);
    trainer.reset();  // a plan, too, needs some
    return Error(describe(error, recipe, data, device, bytes));
  };
  try {
    return trainer->run(folder.path(), folder);
  } catch (const OutOfMemory& error) {
    throw refusal(error);
  } catch (const std::bad_alloc&) {
    throw refusal(OutOfMemory("out of memory on the host"));
  }
}

}  // namespace

int run_train(const Recipe& given, const TrainCommand& command) {
  // Everything that can be wrong is found out before the folder is made.
  Recipe recipe = resolved(given);
  const std::unique_ptr<Exec> exec = open_exec(recipe.device, recipe.threads);
  exec->allow_tf32(recipe.tf32);
  recipe.device = to_string(exec->device());
  recipe.threads = exec->threads();
  require(command.resume == Resume::kNo || !command.overwrite,
          "--resume goes on with a run and --overwrite replaces it; give one of them");
  const bool resumed = goes_on(command, recipe);
  const RunEnd end = resumed ? end_of(recipe.output) : RunEnd::kNone;
  if (end != RunEnd::kNone) {
    const bool collapsed = end == RunEnd::kCollapsed;
    finish(recipe.output);
    fmt::print("The run in '{}' {}; there is nothing to go on with\n", recipe.output,
               collapsed ? "ended with its collapse" : "is finished");
    return collapsed ? kExitCollapsed : 0;
  }
  const Dataset data =
      load_dataset(recipe.dataset, recipe.data_dir, Split::kTrain, recipe.image_size);
  const std::optional<int64_t> free = free_memory(exec->device());
  const MemoryUse plan = plan_memory(recipe, data, exec->device());
  require_memory(plan, free, recipe, data, exec->device());
  auto trainer = std::make_unique<Trainer>(*exec, recipe, data);
  // Without a state yet it begins again, in the same folder.
  const bool from_state = resumed && resume_newest(*trainer, recipe.output);
  if (!from_state) trainer->take_init();
  RunFolder folder(recipe.output, recipe,
                   from_state                     ? ExistingRun::kResume
                   : resumed || command.overwrite ? ExistingRun::kOverwrite
                                                  : ExistingRun::kRefuse,
                   stdout, stop_signal_came);
  listen_for_stop_signals();
  if (!from_state) {
    tell_without_effect(folder, recipe);
    warn_of_emulation(folder, recipe);
    folder.on_message(describe(plan, free));
  }
  const TrainingResult result =
      run_in_memory(std::move(trainer), folder, recipe, data, exec->device());
  write_report(folder.path());
  if (result.interrupted) {
    fmt::print("Stopped after step {}; the same command with --resume goes on from there\n",
               result.steps);
    return kExitInterrupted;
  }
  const std::string best = result.best.robust_accuracy()
                               ? fmt::format("Best held-out robust accuracy {:.1f} %",
                                             100 * *result.best.robust_accuracy())
                               : "No images were held out, so the last weights count as the best";
  fmt::print("Trained {} steps in {}. {} (epoch {}): {}\n", result.steps,
             duration_text(result.seconds), best, result.best.epoch(),
             (folder.path() / kBestCheckpoint).string());
  return result.collapsed ? kExitCollapsed : 0;
}

}  // namespace ringfort
