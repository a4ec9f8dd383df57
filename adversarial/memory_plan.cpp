#include "adversarial/memory_plan.h"

#include <algorithm>

#include "adversarial/input.h"
#include "adversarial/trainer.h"

namespace ringfort {
namespace {

// "1.3 GB", "210 MB"
std::string size_text(int64_t bytes) {
  const double megabytes = static_cast<double>(bytes) / 1e6;
  return megabytes < 999.5 ? fmt::format("{:.{}f} MB", megabytes, megabytes < 9.95 ? 1 : 0)
                           : fmt::format("{:.1f} GB", megabytes / 1e3);
}

// The end of a sentence: what fits.
std::string advice(int64_t batch) {
  return batch > 0 ? fmt::format("use --batch-size {} or less", batch)
                   : "no batch is small enough: use a smaller --width or --model";
}

}  // namespace

MemoryUse Trainer::memory() const {
  return {model_->bytes_reserved() + step_->bytes_reserved(), step_->attack_pool().bytes_reserved(),
          step_->training_pool().bytes_reserved(),
          // Attacks on held-out images shrink their batches as samples are won, so the free lists
          // grow by chance; where memory is short they are given back.
          pool_.peak_bytes(), feed_->bytes_reserved()};
}

void Trainer::rehearse() {
  feed_->start_epoch(0);
  for (int part = 0; part < recipe_.micro_batches; ++part) step_->run(next_input(0), {});
  const int steps = 1;  // they are all alike
  if (recipe_.probe_every > 0 && probe_.x_nat) {
    healthy_.emplace(exec_, pool_, model_->params(), step_->optimizer());
    under_validation_attack(*model_, probe_, steps);
  }
  with_kept_weights(0, [&] {
    if (!validation_.x_nat) return;
    predict(exec_, pool_, *model_, validation_.x_nat, pass_images(),
            attacked_norms(recipe_.auxiliary_norms));
    under_validation_attack(*model_, validation_, steps);
  });
}

MemoryUse plan_memory(const Recipe& recipe, const Dataset& data, Device device) {
  device.planned = true;
  Exec exec(device, 1);
  Trainer trainer(exec, recipe, data);
  trainer.rehearse();
  return trainer.memory();
}

int64_t largest_batch(const Recipe& recipe, const Dataset& data, Device device, int64_t bytes) {
  Recipe tried = recipe;
  const int64_t parts = recipe.micro_batches;  // a batch is so many equal ones
  const auto fits = [&](int64_t images) {
    tried.batch_size = static_cast<int>(images * parts);
    try {
      return plan_memory(tried, data, device).total() <= bytes;
    } catch (const Error&) {  // a batch too small for the model's norms
      return false;
    }
  };
  int64_t fitting = 0, too_large = (data.count - recipe.hold_out) / parts + 1;
  while (too_large - fitting > 1) {
    const int64_t middle = fitting + (too_large - fitting) / 2;
    (fits(middle) ? fitting : too_large) = middle;
  }
  return fitting * parts;
}

std::string describe(const MemoryUse& plan, std::optional<int64_t> free) {
  std::string parts = "weights and optimizer " + size_text(plan.weights);
  const auto add = [&](const char* name, int64_t bytes) {
    if (bytes > 0) parts += fmt::format(", {} {}", name, size_text(bytes));
  };
  add("attack", plan.attack);
  add("training pass", plan.training);
  add("evaluation", plan.evaluation);
  add("data set", plan.data);
  return fmt::format("memory: {} planned ({}){}; what libraries take for themselves is not counted",
                     size_text(plan.total()), parts,
                     free ? fmt::format(" of {} free", size_text(*free)) : "");
}

void require_memory(const MemoryUse& plan, std::optional<int64_t> free, const Recipe& recipe,
                    const Dataset& data, Device device) {
  if (!free || plan.total() <= *free) return;
  fail("train: batches of {} need {} of memory and {} are free; {}", recipe.batch_size,
       size_text(plan.total()), size_text(*free),
       advice(largest_batch(recipe, data, device, *free)));
}

std::string describe(const OutOfMemory& error, const Recipe& recipe, const Dataset& data,
                     Device device, int64_t bytes) {
  const int64_t fitting = largest_batch(recipe, data, device, bytes);
  return fmt::format("{}; {}", error.cause(),
                     advice(std::min<int64_t>(fitting, recipe.batch_size - 1)));
}

}  // namespace ringfort
