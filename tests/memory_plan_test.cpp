// Planned memory: what a plan says of a training is what the training takes; what fits, and what is
// said where it does not.
#include "adversarial/memory_plan.h"

#include <array>
#include <catch2/catch.hpp>
#include <numeric>

#include "adversarial/input.h"
#include "adversarial/trainer.h"
#include "kernels/device_memory.h"
#include "kernels/plans.h"
#include "tests/quarters.h"
#include "tests/temp_folder.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

constexpr Device kCpu = {}, kPlannedCpu = {.planned = true};

// In use at most and reserved, by both pools of a step, and what model and optimizer hold.
using StepMemory = std::array<int64_t, 6>;

StepMemory memory_of_steps(Device device, const ModelSpec& spec, const TrainingMethod& method,
                           int64_t batch, Dtype dtype, int steps) {
  Exec exec(device, 1);
  exec.plans().force("direct");  // nothing to time
  const auto model = make_model(spec, {.bfloat16_copy = true, .device = device});
  initialize(exec, model->params(), 1);
  TrainingStep step(exec, *model, method, {.decay_all = false}, dtype);
  Pool pool(device);
  std::vector<int64_t> samples(static_cast<size_t>(batch));
  std::iota(samples.begin(), samples.end(), 0);
  for (int i = 0; i < steps; ++i)
    step.run(make_input(exec, pool, quarters(batch, static_cast<int>(spec.channels)), samples),
             {{.lr = 0.1}});
  return {step.attack_pool().peak_bytes(),   step.attack_pool().bytes_reserved(),
          step.training_pool().peak_bytes(), step.training_pool().bytes_reserved(),
          model->bytes_reserved(),           step.bytes_reserved()};
}

TrainingMethod attacked_by(AttackOptions attack, Dtype dtype) {
  attack.dtype = dtype;
  return {attack};
}

MemoryUse memory_of_run(const Recipe& recipe, const Dataset& data) {
  Exec exec(kCpu, 1);
  exec.plans().force("direct");
  TempFolder folder;
  TrainingObserver silent;
  Trainer trainer(exec, recipe, data);
  trainer.run(folder.path(), silent);
  return trainer.memory();
}

Recipe resnet_recipe() {
  Recipe recipe = small_recipe();
  recipe.model = "preact_resnet18";
  recipe.width = 16;
  return recipe;
}

}  // namespace

TEST_CASE("memory plan: a planned step takes what a real one takes", "[memory][slow]") {
  for (const char* name :
       {"cnn_small", "preact_resnet18", "preact_resnet18_raw", "resnet18", "resnet50"})
    for (const int width : {4, 16})  // channels last, and in blocks
      for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16})
        for (const TrainingMethod& method : {TrainingMethod{}, attacked_by(pgd({}, 2, 0.01), dtype),
                                             attacked_by(fgsm_rs({}), dtype)})
          for (const int64_t batch : {2, 6, 32}) {
            INFO(name << " " << width << " " << to_string(dtype) << " batch " << batch << ", "
                      << (method.inner ? describe(*method.inner) : "no attack"));
            const ModelSpec spec = tiny_spec(name, width, 8, 3);
            const StepMemory planned = memory_of_steps(kPlannedCpu, spec, method, batch, dtype, 1);
            CHECK(planned == memory_of_steps(kCpu, spec, method, batch, dtype, 3));
            CHECK((planned[0] > 0) == method.inner.has_value());
          }
}

TEST_CASE("memory plan: a planned training takes what a real one takes", "[memory]") {
  const Dataset data = quarters(100, 3);
  for (Recipe recipe : {small_recipe(), resnet_recipe()})
    for (const char* method : {"standard", "pgd-at", "fast-at"})
      for (const int64_t hold_out : {0, 40}) {
        recipe.method = method;
        recipe.hold_out = hold_out;
        recipe.on_collapse = "continue";
        INFO(recipe.model << " " << method << " " << hold_out);
        const MemoryUse planned = plan_memory(recipe, data, kCpu);
        const MemoryUse taken = memory_of_run(recipe, data);
        CHECK(taken.weights == planned.weights);
        CHECK(taken.attack == planned.attack);
        CHECK(taken.training == planned.training);
        CHECK(taken.data == planned.data);
        // How many samples are attacked side by side is up to the weights: fewer towards the end,
        // in blocks up to a quarter too large.
        CHECK(taken.evaluation <= planned.evaluation + planned.evaluation / 4);
        CHECK((taken.evaluation == planned.evaluation || hold_out > 0));
      }
}

TEST_CASE("memory plan: what is trained beside the weights is planned, too", "[memory]") {
  const Dataset data = quarters(100, 3);
  Recipe recipe = resnet_recipe();
  recipe.on_collapse = "continue";
  SECTION("TRADES keeps two passes") { recipe.method = "trades"; }
  SECTION("DAT has one pass after the other") {
    recipe.method = "dat";
    const auto training = [&] { return plan_memory(recipe, data, kCpu).training; };
    const int64_t both = training();
    recipe.method = "trades";
    CHECK(both < training());
    recipe.method = "dat";
  }
  SECTION("weight perturbation") { recipe.awp_gamma = 0.01; }
  SECTION("moments and an average") {
    recipe.opt = "adamw";
    recipe.ema_decay = 0.9;
    recipe.ema_statistics = "re-estimate";
  }
  SECTION("micro-batches") { recipe.micro_batches = 4; }
  const MemoryUse planned = plan_memory(recipe, data, kCpu), taken = memory_of_run(recipe, data),
                  plain = plan_memory(resnet_recipe(), data, kCpu);
  CHECK(taken.weights == planned.weights);
  CHECK(taken.attack == planned.attack);
  CHECK(taken.training == planned.training);
  CHECK(taken.evaluation <= planned.evaluation + planned.evaluation / 4);
  CHECK(planned.total() != plain.total());
  if (recipe.micro_batches > 1) CHECK(planned.training < plain.training / 2);
}

TEST_CASE("memory plan: the largest batch is one that micro-batches divide", "[memory]") {
  const Dataset data = quarters(100, 3);
  Recipe recipe = resnet_recipe();
  recipe.micro_batches = 4;
  const int64_t bytes = plan_memory(recipe, data, kCpu).total();
  const int64_t largest = largest_batch(recipe, data, kCpu, bytes);
  CHECK(largest >= recipe.batch_size);
  CHECK(largest % 4 == 0);
}

TEST_CASE("memory plan: a planned attack of an evaluation takes what a real one takes",
          "[memory]") {
  const auto peak = [](Device device, const char* name, int64_t samples, int64_t batch) {
    Exec exec(device, 1);
    exec.plans().force("direct");
    const auto model = make_model(tiny_spec(name, 16, 8, 3), {.device = device});
    initialize(exec, model->params(), 1);
    Pool pool(device);
    std::vector<int64_t> all(static_cast<size_t>(samples));
    std::iota(all.begin(), all.end(), 0);
    const AttackInput input = make_input(exec, pool, quarters(samples, 3), all);
    attack(exec, pool, *model, input, pgd({}, 2, 0.01), batch);  // all steps of every sample
    return pool.peak_bytes();
  };
  for (const char* name : {"cnn_small", "preact_resnet18"})
    for (const auto& [samples, batch] :
         {std::pair{20, 8}, std::pair{7, 16}, std::pair{33, 16}, std::pair{30, 10}})
      CHECK(peak(kPlannedCpu, name, samples, batch) == peak(kCpu, name, samples, batch));
}

TEST_CASE("memory plan: larger batches take more, and the largest that fits is found", "[memory]") {
  const Dataset data = quarters(300, 3);
  for (Recipe recipe : {small_recipe(), resnet_recipe()})
    for (const DeviceKind kind : {DeviceKind::kCpu, DeviceKind::kCuda}) {
      const Device device{.kind = kind};  // need not be there
      const auto total = [&](int64_t batch) {
        recipe.batch_size = static_cast<int>(batch);
        return plan_memory(recipe, data, device).total();
      };
      int64_t before = 0;
      for (const int64_t batch : {2, 3, 4, 8, 16, 31, 32, 100, 200, 268}) {
        CHECK(total(batch) > before);
        before = total(batch);
      }
      const int64_t between = (total(50) + total(51)) / 2;
      CHECK(largest_batch(recipe, data, device, between) == 50);
      CHECK(largest_batch(recipe, data, device, total(50)) == 50);
      CHECK(largest_batch(recipe, data, device, before) == 268);  // all images there are
    }
  CHECK(largest_batch(small_recipe(), data, kCpu, 1000) == 0);
}

TEST_CASE("memory plan: the data set and blocks of channels are as the device has them",
          "[memory]") {
  const Dataset data = quarters(100, 3);
  const Recipe recipe = resnet_recipe();
  const MemoryUse cpu = plan_memory(recipe, data, kCpu);
  const MemoryUse cuda = plan_memory(recipe, data, {.kind = DeviceKind::kCuda});
  CHECK(cpu.data == 0);
  CHECK(cuda.data == 100 * 8 * 8 * 3);
  CHECK(cuda.weights == cpu.weights);
  CHECK(cuda.total() == cuda.weights + cuda.attack + cuda.training + cuda.evaluation + cuda.data);
}

TEST_CASE("memory plan: what does not fit is refused with the batch that does", "[memory]") {
  const Dataset data = quarters(300, 3);
  Recipe recipe = resnet_recipe();
  recipe.batch_size = 40;
  const int64_t fits = plan_memory(recipe, data, kCpu).total();
  recipe.batch_size = 200;
  const MemoryUse plan = plan_memory(recipe, data, kCpu);
  const auto refusal = [&](std::optional<int64_t> free) -> std::string {
    try {
      require_memory(plan, free, recipe, data, kCpu);
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  };
  CHECK(refusal(plan.total()).empty());
  CHECK(refusal(std::nullopt).empty());  // nobody knows
  CHECK_THAT(refusal(plan.total() - 1), Contains("use --batch-size 199 or less"));
  CHECK_THAT(refusal(fits), Contains("batches of 200 need ") &&
                                Contains(" are free; use --batch-size 40 or less"));
  CHECK_THAT(refusal(1000),
             Contains("are free; no batch is small enough: use a smaller --width or --model"));

  // Memory that ran out all the same.
  const OutOfMemory error("out of memory: 5 MiB of a tensor");
  CHECK(describe(error, recipe, data, kCpu, fits) ==
        "out of memory: 5 MiB of a tensor; use --batch-size 40 or less");
  CHECK_THAT(describe(error, recipe, data, kCpu, 2 * plan.total()), Contains("--batch-size 199 "));
}

TEST_CASE("memory plan: the line before a training says what, of what and what not", "[memory]") {
  MemoryUse plan;
  plan.weights = 210'000'000;
  plan.attack = 300'400'000;
  plan.training = 1'260'000'000;
  plan.evaluation = 2'340'000;
  CHECK(
      describe(plan, 12'000'000'000) ==
      "memory: 1.8 GB planned (weights and optimizer 210 MB, attack 300 MB, training pass 1.3 GB, "
      "evaluation 2.3 MB) of 12.0 GB free; what libraries take for themselves is not counted");
  CHECK_THAT(describe(plan, std::nullopt), Contains("2.3 MB); what"));
  const std::optional<int64_t> free = free_memory(kCpu);  // of Linux
  REQUIRE(free);
  CHECK(*free > 1'000'000);
}
