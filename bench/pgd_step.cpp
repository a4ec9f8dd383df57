// pgd-step, fgsm-rs-step, wrn-step, resnet50-step: one whole training step, in images per second,
// beside the convolutions it cannot do without and beside PyTorch; how much memory its attack
// takes; on a GPU also the share of its peak, the kernels launched and the time that the host
// spends on a step.
#include "adversarial/trainer.h"
#include "bench/bare_convolutions.h"
#include "bench/bench.h"
#include "bench/timing.h"
#include "bench/training_batch.h"
#include "kernels/onednn.h"

namespace ringfort::bench {
namespace {

constexpr double kPeakOfBfloat16 =
    990e12;  // H100 and H200, dense products, floating-point ops per s

struct Goals {
  std::optional<double> of_bare, of_peer;  // shares of the bare convolutions' rate and of PyTorch's
  // At kGoalBatch images, for an H200.
  double images_per_second = 0;        // 0: none
  std::optional<double> of_peak = {};  // of bfloat16 arithmetic
};
constexpr int64_t kGoalBatch = 512;

struct StepBench {
  const char* attack_name;  // --attack of pgd_step.py: pgd, fgsm-rs
  AttackOptions attack;
  Dtype training;
  Goals cpu, gpu;
  const char* model = "preact_resnet18";
  int64_t size = 32, classes = 10;  // of its images
  DefaultBatches batches = kTrainingBatches;
};

AttackOptions pgd_steps(int steps, Dtype dtype) {
  AttackOptions attack = pgd({}, steps, 2.0 / 255);
  attack.bn = AttackBn::kEval;
  attack.dtype = dtype;
  return attack;
}

// --dtype of pgd_step.py
std::string peer_dtype(const StepBench& bench) {
  return bench.attack.dtype == bench.training ? std::string(to_string(bench.training)) : "mixed";
}

std::vector<std::string> peer_arguments(const Context& context, const StepBench& bench,
                                        const ModelSpec& spec, int64_t batch) {
  std::vector<std::string> arguments = peer_machine(context);
  const std::vector<std::pair<const char*, std::string>> options = {
      {"--model", spec.name},
      {"--width", std::to_string(spec.width)},
      {"--classes", std::to_string(spec.classes)},
      {"--size", std::to_string(spec.height)},
      {"--dtype", peer_dtype(bench)},
      {"--batch", std::to_string(batch)},
      {"--attack", bench.attack_name},
      {"--steps", std::to_string(bench.attack.steps)}};
  for (const auto& [name, value] : options) {
    arguments.emplace_back(name);
    arguments.push_back(value);
  }
  return arguments;
}

double megabytes(const Pool& pool) { return static_cast<double>(pool.peak_bytes()) / 1e6; }

// Peak memory of an attack and of a training pass, weights and what is made of them not counted.
void report_memory(Context& context, Model& model, const AttackInput& batch, const StepBench& bench,
                   Peer* peer) {
  Exec& exec = context.exec;
  Pool attack_pool(exec.device());
  TrainingAttack attack(exec, attack_pool, model, bench.attack);
  attack.run(batch);
  TrainingStep step(exec, model, {}, {}, bench.training);
  step.run(batch, {{.lr = 0.001}});
  Figure figure{"attack memory beyond weights", megabytes(attack_pool), "MB", {}, ""};
  figure.comparisons.push_back({.reference_name = "training pass",
                                .reference = megabytes(step.training_pool()),
                                .goal = 0.25,
                                .at_most = true});
  if (peer != nullptr && !context.on_cpu())
    figure.comparisons.push_back({.reference_name = "PyTorch's attack",
                                  .reference = peer->ask("memory").at("megabytes").get<double>(),
                                  .goal = 0.2,
                                  .at_most = true});
  context.report.add(figure);
}

// What only a GPU has: launches queued by a host that should have nothing else to do.
void report_host(Context& context, const TrainingStep& step, const StepBench& bench, int64_t batch,
                 double step_seconds, const std::function<void()>& run) {
  const auto kernels = static_cast<double>(step.attack_kernels(batch));
  context.report.add({"kernels per attack step",
                      kernels / bench.attack.steps,
                      "",
                      {{.reference_name = "kernels", .reference = 50, .goal = 1, .at_most = true}},
                      kernels > 0 ? "" : "the attack was not recorded"});
  context.report.add({"kernels of the training pass and update",
                      static_cast<double>(step.training_kernels()),
                      "",
                      {},
                      ""});
  context.report.add({"host time to queue a step",
                      1e3 * host_seconds(context.exec, run),
                      "ms",
                      {{.reference_name = "ms of the step", .reference = 1e3 * step_seconds}},
                      ""});
}

void run_batch(Context& context, const StepBench& bench, int64_t batch_size) {
  Exec& exec = context.exec;
  const bool cpu = context.on_cpu();
  const Dtype attack_dtype = bench.attack.dtype;
  const bool bfloat16 = attack_dtype == Dtype::kBFloat16 || bench.training == Dtype::kBFloat16;
  const bool emulated = cpu && bfloat16 && !cpu_has_bfloat16();
  const int rounds = emulated ? std::min(context.repeats, 2) : context.repeats;
  Goals goals = cpu ? bench.cpu : bench.gpu;
  if (batch_size != kGoalBatch) goals.images_per_second = 0, goals.of_peak.reset();

  Pool pool(exec.device());
  ModelSpec spec;
  spec.name = bench.model;
  spec.classes = bench.classes;
  spec.height = spec.image_width = bench.size;
  const auto model = make_model(spec, {.bfloat16_copy = bfloat16, .device = exec.device()});
  initialize(exec, model->params(), 1);
  const AttackInput batch = make_batch(exec, pool, model->spec(), batch_size);
  const TrainingMethod method{bench.attack};
  TrainingStep step(exec, *model, method, {}, bench.training);
  BareConvolutions attack_convolutions(exec, pool, *model, batch_size, attack_dtype);
  std::optional<BareConvolutions> training_convolutions;
  if (bench.training != attack_dtype)
    training_convolutions.emplace(exec, pool, *model, batch_size, bench.training);
  const auto peer =
      context.peer.start("pgd_step.py", peer_arguments(context, bench, model->spec(), batch_size));

  const std::function<void()> run_ours = [&] { step.run(batch, {{.lr = 0.001}}); };
  run_ours();  // chooses plans, fills the pool
  run_ours();  // on a GPU: records it
  std::vector<Timed> turns = {timed(exec, run_ours, cpu ? 1 : 5), timed(exec, [&] {
                                // Short beside the step: several times, for a steadier median.
                                for (int i = 0; i < (emulated ? 1 : 3); ++i) {
                                  attack_convolutions.run();
                                  if (training_convolutions) training_convolutions->run();
                                }
                              })};
  if (peer) turns.push_back([&] { return peer->seconds("step"); });
  const std::vector<double> seconds = medians_in_turns(rounds, turns);

  const BareConvolutions& training =
      training_convolutions ? *training_convolutions : attack_convolutions;
  const auto images = static_cast<double>(batch_size);
  const double limit =
      bench.attack.steps * attack_convolutions.input_gradient() + training.training();
  Figure figure{fmt::format("images per second, batch {}", batch_size),
                images / seconds[0],
                "images/s",
                {},
                ""};
  figure.comparisons.push_back(
      {.reference_name = "bare convolutions", .reference = images / limit, .goal = goals.of_bare});
  if (peer)
    figure.comparisons.push_back(
        {.reference_name = fmt::format("PyTorch {} {}", peer->torch_version(),
                                       peer->ask("form").at("form").get<std::string>()),
         .reference = images / seconds[2],
         .goal = goals.of_peer,
         .as_factor = true});
  else
    figure.remark = PeerPython::kMissing;
  if (goals.images_per_second > 0)
    figure.comparisons.push_back({.reference_name = "images/s asked of an H200",
                                  .reference = goals.images_per_second,
                                  .goal = 1,
                                  .as_factor = true});
  context.report.add(figure);
  if (!cpu && attack_dtype == Dtype::kBFloat16) {
    const double operations = bench.attack.steps * attack_convolutions.input_gradient_operations() +
                              training.training_operations();
    context.report.add(
        {"bfloat16 arithmetic",
         operations / seconds[0] / 1e12,
         "TFLOP/s",
         {{.reference_name = "peak", .reference = kPeakOfBfloat16 / 1e12, .goal = goals.of_peak}},
         ""});
  }
  if (!cpu) report_host(context, step, bench, batch_size, seconds[0], run_ours);
  if (emulated)
    context.report.say(
        "this CPU has no bfloat16 instructions: oneDNN emulates them in float32, so these figures "
        "say nothing of a CPU that has them");
  report_memory(context, *model, batch, bench, peer.get());
}

void run_step(Context& context, const StepBench& bench) {
  for (const int64_t batch : context.batches_or(bench.batches)) run_batch(context, bench, batch);
}

// What one trains in on the machine.
Dtype usual_dtype(const Context& context) {
  return context.on_cpu() ? Dtype::kFloat32 : Dtype::kBFloat16;
}

}  // namespace

void run_pgd_step(Context& context) {
  run_step(context, {"pgd", pgd_steps(10, Dtype::kFloat32), Dtype::kFloat32, {0.85, 1.8}, {}});
}

void run_pgd_step_bf16(Context& context) {
  run_step(context, {"pgd",
                     pgd_steps(10, Dtype::kBFloat16),
                     Dtype::kBFloat16,
                     {0.85, 1.15},
                     {{}, 1.5, 14000, 0.36}});
}

void run_pgd_step_mixed(Context& context) {
  run_step(context, {"pgd", pgd_steps(10, Dtype::kBFloat16), Dtype::kFloat32, {}, {}});
}

void run_fgsm_rs_step(Context& context) {
  AttackOptions attack = fgsm_rs({});
  attack.bn = AttackBn::kEval;
  attack.dtype = Dtype::kBFloat16;
  run_step(context, {"fgsm-rs", attack, Dtype::kBFloat16, {}, {{}, 1.5, 64000}});
}

void run_wrn_step(Context& context) {
  const Dtype dtype = usual_dtype(context);
  run_step(context, {"pgd",
                     pgd_steps(10, dtype),
                     dtype,
                     {{}, 1.5},
                     {{}, 1.5},
                     "wrn_34_10",
                     32,
                     10,
                     {{4}, {128}}});
}

void run_resnet50_step(Context& context) {
  const Dtype dtype = usual_dtype(context);
  run_step(context, {"pgd",
                     pgd_steps(3, dtype),
                     dtype,
                     {{}, 1.3},
                     {{}, 1.3},
                     "resnet50",
                     224,
                     1000,
                     {{4}, {256}}});
}

}  // namespace ringfort::bench
