// perturbation: what weight perturbation adds to a step of PGD-10 training, in turns with the same
// step without it.
#include "adversarial/training_step.h"
#include "bench/bench.h"
#include "bench/timing.h"
#include "bench/training_batch.h"

namespace ringfort::bench {
namespace {

struct Side {
  std::unique_ptr<Model> model;
  std::optional<TrainingStep> step;

  Side(Exec& exec, double gamma) {
    ModelSpec spec;
    spec.name = "preact_resnet18";
    model = make_model(spec, {.device = exec.device()});
    initialize(exec, model->params(), 1);
    TrainingMethod method{pgd({}, 10, 2.0 / 255)};
    method.weight_perturbation = gamma;
    step.emplace(exec, *model, method, OptimizerOptions{}, Dtype::kFloat32);
  }
};

}  // namespace

void run_perturbation(Context& context) {
  Exec& exec = context.exec;
  Pool pool(exec.device());
  for (const int64_t images : context.batches_or(kTrainingBatches)) {
    Side plain(exec, 0), perturbed(exec, 0.01);
    const AttackInput batch = make_batch(exec, pool, plain.model->spec(), images);
    std::vector<Timed> turns;
    for (Side* side : {&plain, &perturbed}) {
      const auto run = [side, &batch] { side->step->run(batch, {{.lr = 0.001}}); };
      run();  // chooses plans, fills the pool
      run();  // on a GPU: records it
      turns.push_back(timed(exec, run));
    }
    const std::vector<double> seconds = medians_in_turns(context.repeats, turns);
    context.report.add({fmt::format("PGD-10 with weight perturbation, batch {}", images),
                        1e3 * seconds[1],
                        "ms",
                        {{.reference_name = "without",
                          .reference = 1e3 * seconds[0],
                          .goal = 1.1,
                          .at_most = true}},
                        "a second training pass beside ten attack passes"});
  }
}

}  // namespace ringfort::bench
