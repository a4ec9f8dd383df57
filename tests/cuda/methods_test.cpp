// Recorded training steps of every method and optimizer: replays give what plain launches give, bit
// for bit, over several steps with all that is carried from one to the next.
#include <catch2/catch.hpp>

#include "adversarial/attack_steps.h"
#include "adversarial/input.h"
#include "adversarial/training_step.h"
#include "engine/transfer.h"
#include "kernels/plans.h"
#include "models/layers.h"
#include "tests/quarters.h"
#include "tests/temp_folder.h"
#include "tests/test_device.h"
#include "tests/tiny_models.h"

namespace ringfort {
namespace {

using test::quarters;
using test::TempFolder;

// Two convolutions, each with two sets of norms: what methods differ in, in little time.
class TwoLayers final : public Model {
 public:
  TwoLayers() : Model(with_auxiliary(), Dtype::kFloat32) {
    LayerBuilder build(params(), {}, true);
    conv1_ = build.conv("conv1", 3, 8, 3, 1);
    norm1_ = build.norm("norm1", 8);
    conv2_ = build.conv("conv2", 8, 16, 3, 2);
    norm2_ = build.norm("norm2", 16);
    classifier_ = build.linear("fc", 16, 4);
    allocate(false, kTestDevice);
  }

 private:
  static ModelSpec with_auxiliary() {
    ModelSpec spec = test::tiny_spec("two_layers", 8, 8, 3);
    spec.auxiliary_norms = true;
    return spec;
  }
  Var body(Pass& p, Var x) override {
    Var y = conv_norm_relu(p, std::move(x), conv1_, norm1_);
    y = conv_norm_relu(p, std::move(y), conv2_, norm2_);
    return linear(p, global_avg_pool(p, std::move(y)), classifier_, Activation::kNone,
                  logits_dtype(p));
  }
  ConvParams conv1_, conv2_;
  NormParams norm1_, norm2_;
  LinearParams classifier_;
};

struct Case {
  const char* name;
  TrainingMethod method;
  OptimizerOptions optimizer = {};
  bool mixed = false;
};

std::vector<Case> cases() {
  const AttackOptions linf = pgd({}, 2, 4.0 / 255);
  AttackOptions divergence = trades({}, 2, 4.0 / 255);
  const OuterLoss trades_loss{.kind = OuterLossKind::kTrades};
  OuterLoss auxiliary_loss = trades_loss;
  auxiliary_loss.norms = Norms::kAuxiliary;
  AttackOptions auxiliary = divergence;
  auxiliary.norms = Norms::kAuxiliary;
  return {
      {"TRADES with weight perturbation through auxiliary norms",
       {auxiliary, auxiliary_loss, 0.005}},
      {"weight perturbation, average", {linf, {}, 0.01}, {.average = true}},
      {"Adam, clipped", {linf}, {.kind = OptimizerKind::kAdam, .clip_grad = 0.1}},
      {"LAMB, average", {linf}, {.kind = OptimizerKind::kLamb, .average = true}},
      {"LARS, mixtures", {linf}, {.kind = OptimizerKind::kLars, .decay_all = false}, true},
      {"TRADES, AdamW, mixtures", {divergence, trades_loss}, {.kind = OptimizerKind::kAdamW}, true},
  };
}

AttackInput input_of(Exec& exec, Pool& pool, const Dataset& data, uint32_t epoch, bool mixed) {
  AttackInput input = make_input(exec, pool, data, std::vector<int64_t>{3, 8, 1, 20});
  input.epoch = epoch;
  if (!mixed) return input;
  const std::vector<int32_t> labels = {0, 1, 2, 3};
  std::vector<float> shares = {1, 0.5f, 0.75f, 0.875f};
  shares[epoch] = 0.9375f;  // another mixture at every step
  input.mixture = empty_mixture(pool, 4);
  to_device(exec, input.mixture.labels, labels.data());
  to_device(exec, input.mixture.share, shares.data());
  return input;
}

using State = std::vector<std::vector<std::byte>>;

State read(Exec& exec, const std::vector<NamedView>& parts) {
  State state;
  for (const NamedView& part : parts) {
    state.emplace_back(static_cast<size_t>(part.view.bytes()));
    to_host(exec, state.back().data(), part.view);
  }
  return state;
}

// Weights, statistics and optimizer after each of three steps. replayed: by one TrainingStep, which
// records; else by a new one for each, whose first run is no replay.
std::vector<State> train(const Case& c, const std::string& plans, bool replayed) {
  Exec exec(kTestDevice, 1, plans);
  Pool pool(kTestDevice);
  TwoLayers model;
  initialize(exec, model.params(), 5);
  const Dataset data = quarters(24, 3);
  std::optional<TrainingStep> step;
  std::vector<State> states;
  State carried;
  for (const uint32_t number : {0u, 1u, 2u}) {
    if (!step || !replayed) {
      step.emplace(exec, model, c.method, c.optimizer, Dtype::kFloat32);
      const std::vector<NamedView> parts = step->optimizer().state();
      for (size_t i = 0; i < carried.size(); ++i) to_device(exec, parts[i].view, carried[i].data());
    }
    const double lr = 0.02 / (1 + number);
    step->run(input_of(exec, pool, data, number, c.mixed), {{.lr = lr, .averaging = 0.5}});
    carried = read(exec, step->optimizer().state());
    states.push_back(read(exec, {{"master", model.params().flat_master()},
                                 {"statistics", model.params().flat_statistics()}}));
    states.push_back(carried);
  }
  CHECK((step->training_kernels() > 0) == replayed);
  exec.plans().save();
  return states;
}

}  // namespace

TEST_CASE("device: recorded steps of every method and optimizer give what plain launches give",
          "[engine]") {
  const TempFolder folder;
  const std::string plans = (folder / "plans.json").string();
  for (const Case& c : cases()) {
    INFO(c.name);
    const std::vector<State> plain =
        train(c, plans, false);  // chooses plans, for the other to find
    const std::vector<State> replayed = train(c, plans, true);
    for (size_t i = 0; i < plain.size(); ++i) {
      INFO("after step " << i / 2 + 1 << (i % 2 == 0 ? ", weights" : ", optimizer"));
      CHECK((replayed[i] == plain[i]));
      if (i >= 2) CHECK((plain[i] != plain[i - 2]));
    }
  }
}

}  // namespace ringfort
