// Two sets of batch norms, of which each pass goes through one (Xie et al. 2020).
#include <catch2/catch.hpp>

#include "adversarial/evaluate.h"
#include "models/layers.h"
#include "tests/tensors.h"
#include "tests/tiny_models.h"

namespace ringfort::testing {

TEST_CASE("A pass goes through one of two sets of norms and leaves the other alone", "[pass]") {
  constexpr int64_t kChannels = 5;
  Exec exec({}, 1);
  Pool pool;
  ParamStore params(Dtype::kFloat64);
  LayerBuilder build(params, {}, true);
  const ConvParams conv = build.conv("conv", 3, kChannels, 3, 1);
  const NormParams norm = build.norm("norm", kChannels);
  params.allocate();
  randomize(exec, params, 3);
  CHECK(params.segment(norm.auxiliary.gamma).name == "norm.aux_bn.weight");
  const Vector x = random_vector(2 * 4 * 4 * 3, 5, -2, 3);
  const auto pass = [&](BnMode bn, Norms norms, Wrt wrt) {
    PassOptions options{wrt, bn, Dtype::kFloat64};
    options.norms = norms;
    Pass p(exec, pool, params, options);
    const Var y = conv_norm_relu(p, p.input(tensor_of(pool, {2, 4, 4, 3}, x)), conv, norm);
    const Vector values = values_of(y.value);
    if (wrt == Wrt::kParams) p.backward(y, tensor_of(pool, y.value.shape(), values));
    return values;
  };
  // What the norm alone says of the same sums, set by set: fused, plain, and by the batch.
  for (const auto& [norms, set] :
       {std::pair<Norms, NormSet>{Norms::kMain, norm}, {Norms::kAuxiliary, norm.auxiliary}}) {
    const NormSet other = norms == Norms::kMain ? norm.auxiliary : NormSet(norm);
    NormParams alone = norm;
    static_cast<NormSet&>(alone) = set;
    Pass plain(exec, pool, params, {Wrt::kParams, BnMode::kRunning, Dtype::kFloat64});
    const Var y =
        batch_norm(plain, conv2d(plain, plain.input(tensor_of(pool, {2, 4, 4, 3}, x)), conv), alone,
                   Activation::kRelu);
    CHECK(relative_error(pass(BnMode::kRunning, norms, Wrt::kInput), values_of(y.value)) < 1e-12);
    CHECK(relative_error(pass(BnMode::kRunning, norms, Wrt::kParams), values_of(y.value)) < 1e-12);

    const auto statistics = [&](const NormSet& of) {
      return std::pair{values_of(params.statistic(of.mean)),
                       values_of(params.statistic(of.variance))};
    };
    const auto own = statistics(set), others = statistics(other);
    pass(BnMode::kBatchAndUpdate, norms, Wrt::kParams);
    CHECK(statistics(set) != own);
    CHECK(statistics(other) == others);
    for (const ParamId id : {set.gamma, set.beta})
      CHECK(values_of(params.gradient(id)) != Vector(kChannels, 0));
    for (const ParamId id : {other.gamma, other.beta})
      CHECK(values_of(params.gradient(id)) == Vector(kChannels, 0));
  }
  CHECK(pass(BnMode::kRunning, Norms::kMain, Wrt::kInput) !=
        pass(BnMode::kRunning, Norms::kAuxiliary, Wrt::kInput));
}

TEST_CASE("A pass that asks for auxiliary norms of a model without them is refused", "[pass]") {
  Exec exec({}, 1);
  Pool pool;
  ParamStore params(Dtype::kFloat64);
  LayerBuilder build(params);
  const NormParams norm = build.norm("norm", 1);
  params.allocate();
  PassOptions options{Wrt::kNothing, BnMode::kRunning, Dtype::kFloat64};
  options.norms = Norms::kAuxiliary;
  Pass p(exec, pool, params, options);
  CHECK_THROWS_AS(
      batch_norm(p, p.input(tensor_of(pool, {1, 1, 1, 1}, {1})), norm, Activation::kNone), Error);
}

TEST_CASE("an attack and its evaluation judge the network by the norms that it goes through",
          "[attack]") {
  Exec exec({}, 1);
  Pool pool;
  ModelSpec spec = test::tiny_spec("preact_resnet18", 4, 8, 3);
  spec.auxiliary_norms = true;
  const auto model = make_model(spec);
  randomize(exec, model->params(), 3);
  const AttackInput input = test::random_input(pool, {24, 8, 8, 3}, 4, 1);
  const auto predicted = [&](Norms norms) {
    return predict(exec, pool, *model, input.x_nat, 24, norms);
  };
  REQUIRE(predicted(Norms::kMain) != predicted(Norms::kAuxiliary));
  for (const Norms norms : {Norms::kMain, Norms::kAuxiliary}) {
    AttackOptions options = pgd({}, 2, 1.0 / 255);
    options.norms = norms;
    CHECK(attack(exec, pool, *model, input, options, 24).clean_predictions == predicted(norms));
    EvaluateOptions evaluation;
    evaluation.attack = options;
    Evaluation e;
    e.n = 24;
    e.labels = predicted(norms);
    judge(exec, pool, *model, input.x_nat, input.x_nat, evaluation, e);
    CHECK(e.clean_predictions == predicted(norms));
    CHECK(e.adversarial_predictions == predicted(norms));
    CHECK(e.robust_accuracy == 1);
  }
}

}  // namespace ringfort::testing
