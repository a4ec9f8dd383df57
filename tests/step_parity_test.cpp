// Two whole steps of every optimizer, outer loss and perturbation against PyTorch and the papers'
// formulas in float64: weights, and running statistics where the network has them. The vectors come
// from tools/peer/steps.py tests/data.
#include <catch2/catch.hpp>
#include <cmath>

#include "adversarial/outer_loss.h"
#include "adversarial/weight_perturbation.h"
#include "engine/optimizer.h"
#include "kernels/update.h"
#include "tests/parity_case.h"

namespace ringfort {
namespace {

using testing::ParityCase;

constexpr double kLr = 0.125, kMomentum = 0.875, kGamma = 0x1p-5;
constexpr int kSteps = 2;

struct Step {
  std::string name;
  OptimizerOptions optimizer;
  OuterLoss outer = {};
  bool perturbed = false;
};

OptimizerOptions options(OptimizerKind kind, bool everywhere = true) {
  return {.kind = kind,
          .weight_decay = 0x1p-6,
          .decay_all = everywhere,
          .second_beta = 0.75,
          .eps = 0x1p-10,
          .trust_coefficient = 0.25,
          .trust_all = everywhere};
}

OptimizerOptions lamb_of_dat() {
  OptimizerOptions lamb = options(OptimizerKind::kLamb);
  lamb.bias_correction = false;
  lamb.trust_clip = 1.5;
  return lamb;
}

OptimizerOptions averaged() {
  OptimizerOptions sgd = options(OptimizerKind::kSgd);
  sgd.average = true;
  return sgd;
}

// The adversarial images of the script.
Tensor moved_images(ParityCase& c) {
  Tensor x_adv(c.pool, c.x.shape(), c.dtype);
  for (int64_t i = 0; i < c.x.view().count(); ++i) {
    const auto x = detail::load_element<double>(c.x, i);
    const double wave = std::sin(1000 * x);
    detail::store_element(x_adv, i, std::clamp(x + 0x1p-5 * ((wave > 0) - (wave < 0)), 0.0, 1.0));
  }
  return x_adv;
}

void take_steps(ParityCase& c, const Step& step, Optimizer& optimizer) {
  ParamStore& params = c.model->params();
  WeightPerturbation perturbation(params, kGamma);
  const OuterBatch batch{c.x, moved_images(c), c.labels};
  const auto gradient = [&](BnMode bn) {
    PassOptions pass;
    pass.bn = bn;
    pass.dtype = c.dtype;
    outer_gradient(c.exec, c.pool, *c.model, step.outer, batch, pass, c.x.shape().n);
  };
  for (int number = 1; number <= kSteps; ++number) {
    if (step.perturbed) {
      gradient(BnMode::kBatch);
      perturbation.perturb(c.exec);
    }
    gradient(BnMode::kBatchAndUpdate);
    optimizer.step(c.exec, {.lr = kLr, .momentum = kMomentum, .averaging = number > 1 ? 0.75 : 0},
                   {}, step.perturbed ? perturbation.weights() : View{});
  }
}

void check_steps(const std::string& model, const Step& step, Dtype dtype, double tolerance) {
  ParityCase c(model, dtype);
  static const SafetensorsFile expected =
      load_safetensors(testing::kParityFolder / "steps-expected.safetensors");
  ParamStore& params = c.model->params();
  Optimizer optimizer(params, step.optimizer);
  take_steps(c, step, optimizer);
  if (step.optimizer.average) exchange(c.exec, params.flat_master(), optimizer.average());
  const auto check = [&](const testing::Values& values, const std::string& name) {
    INFO(step.name << ", " << to_string(dtype) << ", " << name);
    CHECK(testing::relative_error(
              values, testing::values_of(expected.at(step.name + "." + name))) <= tolerance);
  };
  for (size_t i = 0; i < params.segments().size(); ++i)
    check(testing::in_file_order(params.master(static_cast<ParamId>(i))),
          params.segments()[i].name);
  for (size_t i = 0; i < params.statistics().size(); ++i)
    check(testing::values_of(params.statistic(static_cast<StatId>(i))),
          params.statistics()[i].name);
}

void check_all(Dtype dtype, double tolerance) {
  const OuterLoss trades{.kind = OuterLossKind::kTrades, .beta = 6, .label_smoothing = 0.125};
  const OuterLoss dat{.natural_weight = 0.5, .label_smoothing = 0.125};
  for (const Step& step :
       {Step{"adam", options(OptimizerKind::kAdam)}, Step{"adamw", options(OptimizerKind::kAdamW)},
        Step{"lars", options(OptimizerKind::kLars, false)},
        Step{"lamb", options(OptimizerKind::kLamb, false)}, Step{"lamb-dat", lamb_of_dat()},
        Step{"ema", averaged()}})
    check_steps("cnn_small", step, dtype, tolerance);
  const OptimizerOptions sgd = options(OptimizerKind::kSgd);
  for (const Step& step : {Step{"trades", sgd, trades}, Step{"awp", sgd, {}, true},
                           Step{"trades-awp", sgd, trades, true}, Step{"dat", sgd, dat},
                           Step{"dat-awp", lamb_of_dat(), dat, true}})
    check_steps("preact_resnet18_raw", step, dtype, tolerance);
}

}  // namespace

TEST_CASE("parity with the papers, float64: Adam, AdamW, LARS, LAMB, EMA, TRADES, DAT, AWP") {
  check_all(Dtype::kFloat64, 1e-10);
}

TEST_CASE("parity with the papers, float32: Adam, AdamW, LARS, LAMB, EMA, TRADES, DAT, AWP") {
  check_all(Dtype::kFloat32, 1e-3);
}

}  // namespace ringfort
