// Whole networks against PyTorch: logits, input gradients, and weights and running statistics after
// two steps of SGD, from the same weights. The vectors in tests/data come from PyTorch in float64
// (tools/peer/parity.py --vectors tests/data).
#include <catch2/catch.hpp>

#include "adversarial/attack_steps.h"
#include "engine/optimizer.h"
#include "tests/parity_case.h"

namespace ringfort {
namespace {

using Case = testing::ParityCase;
using testing::in_file_order;
using testing::values_of;

constexpr std::array kModels = {"cnn_small", "mnist_net",     "preact_resnet18",
                                "resnet18",  "resnet50",      "preact_resnet18_raw",
                                "wrn_28_10", "wrn_28_10_silu"};

// One step on the mean loss, as the training loop does it.
void train_step(Case& c, Optimizer& sgd, double lr) {
  Pass p(c.exec, c.pool, c.model->params(), {Wrt::kParams, BnMode::kBatchAndUpdate, c.dtype});
  const Var logits = c.model->forward(p, p.input(c.x));
  Loss loss = cross_entropy(p, logits, c.labels, 1.0 / static_cast<double>(c.x.shape().n));
  p.backward(logits, std::move(loss.dlogits));
  sgd.step(c.exec, {.lr = lr, .momentum = 0.875});
}

void check_against_pytorch(const std::string& name, Dtype dtype, double tolerance) {
  Case c(name, dtype);
  for (const AttackBn bn : {AttackBn::kEval, AttackBn::kTrain}) {
    AttackOptions attack;
    attack.bn = bn;
    attack.dtype = dtype;
    const std::string mode(to_string(bn));
    {
      Pass p(c.exec, c.pool, c.model->params(), attack_pass(attack));
      c.check_close(values_of(c.model->forward(p, p.input(c.x)).value), mode + ".logits",
                    tolerance);
    }
    const InputGradient g = input_gradient(c.exec, c.pool, *c.model, attack, c.x, {c.labels});
    c.check_close(values_of(g.dx), mode + ".dx", tolerance);
  }

  ParamStore& params = c.model->params();
  Optimizer sgd(params, {.weight_decay = 1.0 / 1024});
  for (int step = 0; step < 2; ++step) train_step(c, sgd, 0.125);
  for (size_t i = 0; i < params.segments().size(); ++i) {
    const Segment& segment = params.segments()[i];
    const View master = params.master(static_cast<ParamId>(i));
    c.check_close(in_file_order(master), "trained." + segment.name, tolerance);
  }
  for (size_t i = 0; i < params.statistics().size(); ++i)
    c.check_close(values_of(params.statistic(static_cast<StatId>(i))),
                  "trained." + params.statistics()[i].name, tolerance);
}

}  // namespace

TEST_CASE("parity with PyTorch, float64: logits, input gradients, two steps of SGD") {
  for (const char* name : kModels) check_against_pytorch(name, Dtype::kFloat64, 1e-10);
}

// No value before a ReLU is so near 0 that float32 turns its sign.
TEST_CASE("parity with PyTorch, float32: logits, input gradients, two steps of SGD") {
  for (const char* name : kModels) check_against_pytorch(name, Dtype::kFloat32, 1e-4);
}

}  // namespace ringfort
