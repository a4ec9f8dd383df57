// An attack of one's own: MI-FGSM (Dong et al., "Boosting Adversarial Attacks with Momentum",
// 2018), PGD that goes along the sign of an accumulated gradient instead of the newest one.
// Compared with FGSM on a model that train_own_data has made.
//   own_attack CHECKPOINT
#include <fmt/format.h>

#include <exception>

#include "adversarial/attack_steps.h"
#include "adversarial/evaluate.h"
#include "bars.h"
#include "kernels/device_memory.h"
#include "kernels/rows.h"
#include "models/checkpoint.h"

using namespace ringfort;

// g <- decay g + dx / |dx|_1, one call per image (row). A kernel is a functor; for_each_row brings
// the threads. Compiled by nvcc the same source runs on a GPU, which is what HD stands for.
struct AccumulateRow {
  float* g;
  const float* dx;
  int64_t length;  // of an image
  float decay;

  template <class Row>
  HD void operator()(const Row& row, int64_t n) const {
    float* const to = g + n * length;
    const float* const from = dx + n * length;
    const float norm = row.template sum<float>(
        length, [=](int64_t i) { return from[i] < 0 ? -from[i] : from[i]; });
    const float scale = norm > 0 ? 1 / norm : 0;  // a gradient of zero adds nothing
    row.each(length, [=, this](int64_t i) { to[i] = decay * to[i] + scale * from[i]; });
  }
};

Tensor mi_fgsm(Exec& exec, Pool& pool, Model& model, const AttackInput& input,
               const AttackOptions& options, float decay) {
  const Shape shape = input.x_nat.shape();  // (N, H, W, C)
  const Tensor x_adv(pool, shape, Dtype::kFloat32), g(pool, shape, Dtype::kFloat32);
  copy_view(exec, x_adv, input.x_nat);
  clear(exec, g);
  for (int step = 0; step < options.steps; ++step) {
    // The gradient of the summed loss in the pixels; no weight gradient is formed on the way.
    const Tensor dx = input_gradient(exec, pool, model, options, x_adv, {input.labels}).dx;
    for_each_row(exec, shape.n, shape.per_sample(),
                 AccumulateRow{g.as<float>(), dx.as<const float>(), shape.per_sample(), decay});
    take_step(exec, options, x_adv, g, input.x_nat);  // x + alpha sign(g), back into ball and box
  }
  return x_adv;
}

int main(int argc, char** argv) try {
  require(argc == 2, "give a checkpoint of train_own_data: {} best.safetensors", argv[0]);
  Exec exec;
  Pool pool;
  const LoadedModel loaded = load_checkpoint(exec, argv[1]);
  const Dataset test = bars(400, 3);

  EvaluateOptions options;
  options.attack_name = "fgsm";
  options.attack = fgsm({.norm = Norm::kLinf, .eps = 0.2});
  const Evaluation one_step = evaluate(exec, pool, *loaded.model, test, options);

  options.attack_name = "mi-fgsm";
  options.attack.steps = 10;
  options.attack.alpha = options.attack.threat.eps / 10;
  options.own_attack = [&](const AttackInput& input) {
    return mi_fgsm(exec, pool, *loaded.model, input, options.attack, 1.0f);
  };
  // evaluate() takes nobody's word: it looks at every pixel, and throws where one is outside [0, 1]
  // or more than eps from its original, before it counts what the model says of the images.
  const Evaluation iterated = evaluate(exec, pool, *loaded.model, test, options);

  fmt::print("accuracy {:.3f}; under FGSM {:.4f}, under MI-FGSM {:.4f}\n", one_step.clean_accuracy,
             one_step.robust_accuracy, iterated.robust_accuracy);
  return iterated.robust_accuracy < one_step.robust_accuracy ? 0 : 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
