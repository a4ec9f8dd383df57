// `ringfort train`: recipe -> run folder.
#include <fmt/ranges.h>
#include <xxhash.h>

#include <new>
#include <span>
#include <thread>

#include "adversarial/trainer.h"
#include "distributed/launch.h"
#include "kernels/device_memory.h"
#include "kernels/onednn.h"
#include "tools/commands.h"
#include "tools/machine.h"
#include "tools/progress.h"
#include "tools/report.h"
#include "tools/resume.h"
#include "tools/run_folder.h"
#include "tools/stop_signal.h"
#include "tools/training_data.h"

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

// Of the ranks that write nothing.
class QuietObserver : public TrainingObserver {
 public:
  bool stop_requested() override { return stop_signal_came(); }
};

// What rank 0 says.
std::string word_of_first(Comm& comm, const std::string& mine, std::string_view what) {
  const auto all = comm.all_gather_any(std::as_bytes(std::span(mine)), what);
  return {reinterpret_cast<const char*>(all[0].data()), all[0].size()};
}

// A rank's device and threads, where the recipe leaves them open: the GPU of its own number, and
// its share of the cores.
std::string device_of(const Recipe& recipe, const Launch& launch) {
  const bool open = launch.size > 1 && (recipe.device == "auto" || recipe.device == "cuda");
  if (!open || cuda_device_count() == 0) return recipe.device;
  return fmt::format("cuda:{}", launch.local_rank % cuda_device_count());
}
int threads_of(const Recipe& recipe, const Launch& launch) {
  if (recipe.threads > 0 || launch.local_size <= 1) return recipe.threads;
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, cores / launch.local_size);
}

void require_same_recipe(Comm& comm, Recipe recipe) {
  // What may differ between machines.
  recipe.device = recipe.data_dir = recipe.output = recipe.init = "";
  recipe.threads = recipe.workers = 0;
  const std::string text = to_toml(recipe);
  comm.barrier(fmt::format("start by the recipe {:016x}", XXH3_64bits(text.data(), text.size())));
}

// What a rank takes: its part of the batch.
void require_rank_memory(const Recipe& recipe, const Dataset& data, Exec& exec, int ranks,
                         std::string& description) {
  Recipe part = recipe;
  part.batch_size /= ranks;
  const std::optional<int64_t> free = free_memory(exec.device());
  const MemoryUse plan = plan_memory(part, data, exec.device());
  require_memory(plan, free, part, data, exec.device());
  description = describe(plan, free);
}

// The end of a run that there is nothing to go on with.
int tell_end(const Recipe& recipe, RunEnd end, bool first) {
  const bool collapsed = end == RunEnd::kCollapsed;
  if (first) {
    finish(recipe.output);
    fmt::print("The run in '{}' {}; there is nothing to go on with\n", recipe.output,
               collapsed ? "ended with its collapse" : "is finished");
  }
  return collapsed ? kExitCollapsed : 0;
}

int tell_result(const TrainingResult& result, const std::filesystem::path& folder) {
  write_report(folder);
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
             (folder / kBestCheckpoint).string());
  return result.collapsed ? kExitCollapsed : 0;
}

// A rank other than the first, from the state that the first has taken.
int train_quietly(Trainer& trainer, const std::string& state) {
  if (!state.empty()) trainer.resume(state);
  listen_for_stop_signals();
  QuietObserver observer;
  const TrainingResult result = trainer.run({}, observer);
  return result.interrupted ? kExitInterrupted : result.collapsed ? kExitCollapsed : 0;
}

int train_rank(Recipe recipe, const TrainCommand& command, Exec& exec, Comm& comm) {
  // Everything that can be wrong is found out before the folder is made.
  if (recipe.batch_per_rank > 0) recipe.batch_size = recipe.batch_per_rank * comm.size();
  recipe = resolved(recipe);
  const bool first = comm.rank() == 0, several = comm.size() > 1;
  if (several) require_same_recipe(comm, recipe);
  exec.allow_tf32(recipe.tf32);
  recipe.device = to_string(exec.device());
  recipe.threads = exec.threads();
  require(command.resume == Resume::kNo || !command.overwrite,
          "--resume goes on with a run and --overwrite replaces it; give one of them");
  const bool resumed = first && goes_on(command, recipe);
  auto end = resumed ? end_of(recipe.output) : RunEnd::kNone;
  if (several)
    end = static_cast<RunEnd>(
        std::stoi(word_of_first(comm, std::to_string(static_cast<int>(end)), "how the run ended")));
  if (end != RunEnd::kNone) return tell_end(recipe, end, first);
  const Dataset data = load_training_data(recipe);
  std::string memory;
  require_rank_memory(recipe, data, exec, comm.size(), memory);
  auto trainer =
      std::make_unique<Trainer>(exec, recipe, data, RobustAccuracy{}, several ? &comm : nullptr);
  // Without a state yet it begins again, in the same folder.
  std::string state;
  if (resumed) state = resume_newest(*trainer, recipe.output).value_or("").string();
  if (several) state = word_of_first(comm, state, "the state to go on from");
  if (state.empty()) trainer->take_init();
  if (!first) return train_quietly(*trainer, state);
  RunFolder folder(recipe.output, recipe,
                   !state.empty()                 ? ExistingRun::kResume
                   : resumed || command.overwrite ? ExistingRun::kOverwrite
                                                  : ExistingRun::kRefuse,
                   stdout, stop_signal_came);
  listen_for_stop_signals();
  if (state.empty()) {
    tell_without_effect(folder, recipe);
    warn_of_emulation(folder, recipe);
    folder.on_message(memory);
  }
  return tell_result(run_in_memory(std::move(trainer), folder, recipe, data, exec.device()),
                     folder.path());
}

}  // namespace

int run_train(const Recipe& recipe, const TrainCommand& command) {
  const Launch launch = read_launch();
  const std::unique_ptr<Exec> exec =
      open_exec(device_of(recipe, launch), threads_of(recipe, launch));
  Comm comm(open_transport(parse_comm_kind(recipe.comm), launch, *exec, recipe.comm_timeout),
            {.deadline = recipe.comm_timeout});
  int exit_code = 0;
  run_rank(comm, [&] { exit_code = train_rank(recipe, command, *exec, comm); });
  return exit_code;
}

}  // namespace ringfort
