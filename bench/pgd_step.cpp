// pgd-step: one whole training step of PGD-10, in images per second, beside the convolutions it
// cannot do without and beside PyTorch; and how much memory its attack takes.
#include <numeric>

#include "adversarial/trainer.h"
#include "bench/bare_convolutions.h"
#include "bench/bench.h"
#include "bench/timing.h"
#include "kernels/onednn.h"

namespace ringfort::bench {
namespace {

constexpr int64_t kBatch = 64;
constexpr int kAttackSteps = 10;

struct Dtypes {
  Dtype attack, training;
  const char* peer;                         // --dtype of pgd_step.py
  std::optional<double> of_limit, of_peer;  // goals
};

// Random pixels: the work does not depend on what is in them.
AttackInput make_batch(Exec& exec, Pool& pool) {
  AttackInput batch;
  batch.x_nat =
      random_tensor(exec, pool, {kBatch, 32, 32, 3}, Dtype::kFloat32, Layout::kChannelsLast, 0, 1);
  batch.labels = Tensor(pool, vector_shape(kBatch), Dtype::kInt32);
  for (int64_t i = 0; i < kBatch; ++i) batch.labels.as<int32_t>()[i] = static_cast<int32_t>(i % 10);
  batch.samples = Tensor(pool, vector_shape(kBatch), Dtype::kInt64);
  std::iota(batch.samples.as<int64_t>(), batch.samples.as<int64_t>() + kBatch, 0);
  return batch;
}

AttackOptions make_attack(Dtype dtype) {
  AttackOptions attack = pgd({}, kAttackSteps, 2.0f / 255);
  attack.bn = AttackBn::kEval;
  attack.dtype = dtype;
  return attack;
}

// Peak memory of an attack and of a training pass, weights and what is made of them not counted.
void report_memory(Context& context, Model& model, const AttackInput& batch, Dtypes dtypes) {
  Pool attack_pool, training_pool;
  TrainingAttack attack(context.exec, attack_pool, model, make_attack(dtypes.attack));
  attack.run(batch);
  TrainingStep step(context.exec, training_pool, model, {}, {}, dtypes.training);
  step.run(batch, 0.001);
  const auto megabytes = [](const Pool& pool) {
    return static_cast<double>(pool.peak_bytes()) / 1e6;
  };
  context.report.add({"attack memory beyond weights",
                      megabytes(attack_pool),
                      "MB",
                      {{.reference_name = "training pass",
                        .reference = megabytes(training_pool),
                        .goal = 0.25,
                        .at_most = true}},
                      ""});
}

void run_step(Context& context, Dtypes dtypes) {
  Exec& exec = context.exec;
  const bool bfloat16 = dtypes.attack == Dtype::kBFloat16 || dtypes.training == Dtype::kBFloat16;
  const bool emulated = bfloat16 && !cpu_has_bfloat16();
  const int rounds = emulated ? std::min(context.repeats, 2) : context.repeats;

  Pool pool;
  ModelSpec spec;
  spec.name = "preact_resnet18";
  const auto model = make_model(spec, {.bfloat16_copy = bfloat16});
  initialize(exec, model->params(), 1);
  const AttackInput batch = make_batch(exec, pool);
  const TrainingMethod method{make_attack(dtypes.attack), OuterLoss::kCrossEntropy};
  TrainingStep step(exec, pool, *model, method, {}, dtypes.training);
  BareConvolutions attack_convolutions(exec, pool, *model, kBatch, dtypes.attack);
  std::optional<BareConvolutions> training_convolutions;
  if (dtypes.training != dtypes.attack)
    training_convolutions.emplace(exec, pool, *model, kBatch, dtypes.training);
  const auto peer =
      context.peer.start("pgd_step.py", {"--dtype", dtypes.peer, "--batch", std::to_string(kBatch),
                                         "--threads", std::to_string(exec.threads())});

  const auto run_ours = [&] { step.run(batch, 0.001); };
  run_ours();  // chooses plans, fills the pool
  std::vector<Timed> turns = {timed(run_ours), timed([&] {
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
  const double limit = kAttackSteps * attack_convolutions.input_gradient() + training.training();
  Figure figure{"images per second", kBatch / seconds[0], "images/s", {}, ""};
  figure.comparisons.push_back({.reference_name = "bare convolutions",
                                .reference = kBatch / limit,
                                .goal = dtypes.of_limit});
  if (peer)
    figure.comparisons.push_back(
        {.reference_name = fmt::format("PyTorch {} {}", peer->torch_version(),
                                       peer->ask("form").at("form").get<std::string>()),
         .reference = kBatch / seconds[2],
         .goal = dtypes.of_peer,
         .as_factor = true});
  else
    figure.remark = PeerPython::kMissing;
  context.report.add(figure);
  if (emulated)
    context.report.say(
        "this CPU has no bfloat16 instructions: oneDNN emulates them in float32, so these figures "
        "say nothing of a CPU that has them");
  report_memory(context, *model, batch, dtypes);
}

}  // namespace

void run_pgd_step(Context& context) {
  run_step(context, {Dtype::kFloat32, Dtype::kFloat32, "float32", 0.85, 1.8});
}

void run_pgd_step_bf16(Context& context) {
  run_step(context, {Dtype::kBFloat16, Dtype::kBFloat16, "bfloat16", 0.85, 1.15});
}

void run_pgd_step_mixed(Context& context) {
  run_step(context, {Dtype::kBFloat16, Dtype::kFloat32, "mixed", {}, {}});
}

}  // namespace ringfort::bench
