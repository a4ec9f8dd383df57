// One step of training as a whole: weight perturbation, micro-batches, TRADES, steps that must
// change nothing, statistics estimated anew.
#include "adversarial/training_step.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>

#include "adversarial/attack_steps.h"
#include "adversarial/input.h"
#include "engine/snapshot.h"
#include "kernels/plans.h"
#include "tests/quarters.h"
#include "tests/temp_folder.h"
#include "tests/tensors.h"

namespace ringfort::test {
namespace {

using testing::bytes_of;
using testing::relative_error;
using testing::values_of;

constexpr UpdateOptions kUpdate{.lr = 0.05, .momentum = 0.5};

// A network with its step, on the CPU.
struct Training {
  Exec exec{{}, 2};
  Pool pool;
  std::unique_ptr<Model> model;
  std::optional<TrainingStep> step;

  Training(const std::string& name, const TrainingMethod& method, int micro_batches = 1,
           const OptimizerOptions& optimizer = {}, bool auxiliary_norms = false) {
    exec.plans().force("direct");
    ModelSpec spec;
    spec.name = name;
    spec.width = 4;
    spec.classes = 4;
    spec.height = spec.image_width = 8;
    spec.channels = 1;
    spec.mean = {0.5f};
    spec.std = {0.25f};
    spec.auxiliary_norms = auxiliary_norms;
    model = make_model(spec, {.bfloat16_copy = true});
    initialize(exec, model->params(), 1);
    step.emplace(exec, *model, method, optimizer, Dtype::kFloat32, micro_batches);
  }
  AttackInput batch(int64_t first, int64_t count) {
    static const Dataset data = quarters(64);
    std::vector<int64_t> samples(static_cast<size_t>(count));
    std::iota(samples.begin(), samples.end(), first);
    return make_input(exec, pool, data, samples);
  }
  // Weights, statistics, the optimizer's state and the compute copy.
  std::vector<std::vector<std::byte>> state() {
    std::vector<std::vector<std::byte>> all = {bytes_of(model->params().flat_copy())};
    for (const NamedView& part : training_state(model->params(), step->optimizer()))
      all.push_back(bytes_of(part.view));
    return all;
  }
};

TrainingMethod attacked() { return {pgd({.norm = Norm::kLinf, .eps = 0.1}, 2, 0.1)}; }

TrainingMethod by_trades() {
  TrainingMethod method{trades({.norm = Norm::kLinf, .eps = 0.1}, 2, 0.1)};
  method.outer.kind = OuterLossKind::kTrades;
  return method;
}

TrainingMethod by_dat() {
  TrainingMethod method = attacked();
  method.outer.natural_weight = 0.5;
  return method;
}

}  // namespace

TEST_CASE("perturbed weights come back bit for bit where nothing moves them", "[step]") {
  for (TrainingMethod method : {attacked(), by_trades(), by_dat()}) {
    method.weight_perturbation = 0.01;
    Training t("preact_resnet18", method);
    const auto before = t.state();
    for (int i = 0; i < 3; ++i) t.step->run(t.batch(0, 16), {{.lr = 0, .momentum = 0.5}});
    const auto after = t.state();
    CHECK(after[0] == before[0]);  // copy
    CHECK(after[1] == before[1]);  // weights
    CHECK(after[2] != before[2]);  // statistics
    CHECK(after[3] != before[3]);  // momentum
  }
}

TEST_CASE("a perturbation changes what is learnt, and none before its time", "[step]") {
  TrainingMethod method = attacked();
  const auto learnt = [&](double gamma, bool perturb) {
    method.weight_perturbation = gamma;
    Training t("preact_resnet18", method);
    for (int i = 0; i < 2; ++i) t.step->run(t.batch(0, 16), {kUpdate, perturb});
    return t.state();
  };
  const auto plain = learnt(0, true);
  CHECK(learnt(0.02, true) != plain);
  CHECK(learnt(0.02, false) == plain);
}

TEST_CASE("the perturbation's own pass leaves the running statistics alone", "[step]") {
  TrainingMethod method = attacked();
  const auto statistics = [&](double gamma) {
    method.weight_perturbation = gamma;
    Training t("preact_resnet18", method);
    t.step->run(t.batch(0, 16), {kUpdate});
    return values_of(t.model->params().flat_statistics());
  };
  // So small a perturbation moves no batch statistic: one update by the batch, not two.
  CHECK(relative_error(statistics(1e-7), statistics(0)) < 1e-5);
}

TEST_CASE("micro-batches average to the gradient of the whole batch", "[step]") {
  for (const TrainingMethod& method : {TrainingMethod{}, attacked(), by_trades(), by_dat()}) {
    Training whole("cnn_small", method), cut("cnn_small", method, 4);
    for (int64_t number = 1; number <= 2; ++number) {
      const auto first = static_cast<int64_t>(16 * number);
      whole.step->run(whole.batch(first, 16), {kUpdate});
      const auto before = cut.state();
      for (int64_t part = 0; part < 4; ++part) {
        CHECK(cut.state() == before);  // nothing moves before the last
        cut.step->run(cut.batch(first + 4 * part, 4), {kUpdate});
      }
    }
    CHECK(relative_error(values_of(cut.model->params().flat_master()),
                         values_of(whole.model->params().flat_master())) < 1e-5);
    const StepTotals a = cut.step->take_totals(), b = whole.step->take_totals();
    CHECK(a.images == 32);
    CHECK(b.images == 32);
    CHECK(a.correct == b.correct);
    CHECK(a.loss == Approx(b.loss).epsilon(1e-5));
  }
}

TEST_CASE("DAT without weight on the images is training on the attacked ones alone", "[step]") {
  TrainingMethod without = by_dat();
  without.outer.natural_weight = 0;
  const auto learnt = [](const TrainingMethod& method) {
    Training t("preact_resnet18", method);
    t.step->run(t.batch(0, 16), {kUpdate});
    const StepTotals totals = t.step->take_totals();
    return std::pair{t.state(), std::pair{totals.loss, totals.correct}};
  };
  const auto plain = learnt(attacked()), with = learnt(by_dat());
  CHECK(learnt(without) == plain);
  CHECK(with.first != plain.first);
  CHECK(with.second.second == plain.second.second);  // counted on the attacked images
  // Both losses by themselves, at the weights before the step.
  TrainingMethod images = attacked();
  images.inner->steps = 1;
  images.inner->alpha = 0;
  images.inner->start = AttackStart::kNatural;
  CHECK(with.second.first ==
        Approx(plain.second.first + 0.5 * learnt(images).second.first).epsilon(1e-5));
}

TEST_CASE("weight perturbation of micro-batches is refused", "[step]") {
  TrainingMethod method = attacked();
  method.weight_perturbation = 0.01;
  CHECK(error_of([&] { Training("cnn_small", method, 2); }).find("2 micro-batches") !=
        std::string::npos);
}

TEST_CASE("a step without a finite loss changes nothing, is counted, and the next one works",
          "[step]") {
  TrainingMethod tracking = attacked(), perturbed = attacked();
  tracking.inner->bn = AttackBn::kTrainTrack;
  perturbed.weight_perturbation = 0.01;
  for (const TrainingMethod& method : {attacked(), tracking, perturbed, by_trades(), by_dat()})
    for (const int micro_batches : {1, 2}) {
      if (method.weight_perturbation > 0 && micro_batches > 1) continue;
      Training t("preact_resnet18", method, micro_batches, {.clip_grad = 1, .average = true});
      const auto run = [&](bool broken) {
        for (int part = 0; part < micro_batches; ++part) {
          const AttackInput batch = t.batch(16 * part, 16);
          if (broken && part == 0)
            batch.x_nat.as<float>()[70] = std::numeric_limits<float>::quiet_NaN();
          t.step->run(batch, {{.lr = 0.05, .averaging = 0.5}});
        }
      };
      run(false);
      const auto before = t.state();
      run(true);
      run(true);
      CHECK(t.state() == before);
      const StepTotals totals = t.step->take_totals();
      CHECK(totals.images == 16 * micro_batches);
      CHECK(totals.skipped == 2);
      CHECK(totals.first_skipped == 2);
      CHECK(std::isfinite(totals.loss));
      run(false);
      CHECK(t.state() != before);
      CHECK(t.step->take_totals().skipped == 0);
    }
}

TEST_CASE("totals of several spans: the first skipped step is kept", "[step]") {
  StepTotals all;
  all += {1, 2, 4, 5, 0, 0};
  all += {1, 2, 4, 5, 2, 2};
  all += {1, 2, 4, 5, 1, 4};
  CHECK(all.loss == 3);
  CHECK(all.steps == 15);
  CHECK(all.skipped == 3);
  CHECK(all.first_skipped == 7);
}

TEST_CASE("statistics estimated anew are the mean over the batches", "[step]") {
  TrainingMethod tracking = attacked();  // its attack moves statistics of its own
  tracking.inner->bn = AttackBn::kTrainTrack;
  tracking.inner->start = AttackStart::kNatural;
  tracking.inner->alpha = 0;  // so that what is seen does not depend on the statistics before
  TrainingMethod trades = by_trades();
  trades.inner->start = AttackStart::kNatural;
  trades.inner->alpha = 0;
  TrainingMethod dat = tracking;
  dat.outer.natural_weight = 1;
  for (const TrainingMethod& method : {TrainingMethod{}, tracking, trades, dat}) {
    Training t("preact_resnet18", method);
    const View statistics = t.model->params().flat_statistics();
    const auto weights = bytes_of(t.model->params().flat_master());
    const auto observe = [&](int64_t batch, int64_t number) {
      t.step->observe_statistics(t.pool, t.batch(16 * batch, 16), number);
      return values_of(statistics);
    };
    std::vector<std::vector<double>> alone;
    for (int64_t batch = 0; batch < 3; ++batch) alone.push_back(observe(batch, 0));
    std::vector<double> mean;
    for (int64_t batch = 0; batch < 3; ++batch) mean = observe(batch, batch);
    std::vector<double> expected(mean.size());
    for (size_t i = 0; i < expected.size(); ++i)
      expected[i] = (alone[0][i] + alone[1][i] + alone[2][i]) / 3;
    CHECK(relative_error(mean, expected) < 1e-5);
    CHECK(alone[0] != alone[1]);
    CHECK(bytes_of(t.model->params().flat_master()) == weights);
  }
}

TEST_CASE("with auxiliary norms images and attacked images have statistics of their own",
          "[step]") {
  Recipe recipe;
  recipe.method = GENERATE("trades", "dat");
  recipe.model = "preact_resnet18";
  recipe.eps = 0.2;
  recipe.attack_steps = 2;
  recipe.auxiliary_norms = true;
  Training both("preact_resnet18", make_method(recipe), 1, {}, true);
  Training natural("preact_resnet18", {}, 1, {}, true);
  both.step->run(both.batch(0, 16), {kUpdate});
  natural.step->run(natural.batch(0, 16), {kUpdate});
  const ParamStore& params = both.model->params();
  bool attacked_moved = false;
  for (size_t i = 0; i < params.statistics().size(); ++i) {
    const auto id = static_cast<StatId>(i);
    const auto of = [&](Training& t) { return bytes_of(t.model->params().statistic(id)); };
    if (params.statistics()[i].name.find(".aux_bn.") == std::string::npos)
      CHECK(of(both) == of(natural));
    else
      attacked_moved = attacked_moved || of(both) != of(natural);
  }
  CHECK(attacked_moved);
}

TEST_CASE("statistics estimated anew are of the images that go through their norms", "[step]") {
  TrainingMethod method = by_trades();
  method.outer.norms = method.inner->norms = Norms::kAuxiliary;
  Training both("preact_resnet18", method, 1, {}, true);
  Training natural("preact_resnet18", {}, 1, {}, true);
  both.step->observe_statistics(both.pool, both.batch(0, 16), 0);
  natural.step->observe_statistics(natural.pool, natural.batch(0, 16), 0);
  const ParamStore& params = both.model->params();
  for (size_t i = 0; i < params.statistics().size(); ++i) {
    const auto id = static_cast<StatId>(i);
    const auto of = [&](Training& t) { return bytes_of(t.model->params().statistic(id)); };
    const std::string& name = params.statistics()[i].name;
    INFO(name);
    CHECK((of(both) == of(natural)) == (name.find(".aux_bn.") == std::string::npos));
  }
}

TEST_CASE("with auxiliary norms all attacks go through them, and the images of TRADES do not",
          "[step]") {
  Recipe recipe;
  recipe.method = "trades";
  recipe.auxiliary_norms = true;
  CHECK(make_method(recipe).inner->norms == Norms::kAuxiliary);
  CHECK(validation_attack(recipe, 5).norms == Norms::kAuxiliary);
  Training t("preact_resnet18", make_method(recipe), 1, {}, true);
  testing::randomize(t.exec, t.model->params(), 3);  // or the two sets are alike
  const AttackInput input = t.batch(0, 8);
  AttackOptions attack = *make_method(recipe).inner;
  const auto logits = [&] {
    return values_of(natural_logits(t.exec, t.pool, *t.model, attack, input.x_nat));
  };
  const auto through_auxiliary = logits();
  attack.norms = Norms::kMain;
  CHECK(logits() == through_auxiliary);
}

TEST_CASE("auxiliary norms are for methods with two kinds of images", "[step]") {
  Recipe recipe;
  recipe.auxiliary_norms = true;
  recipe.method = "dat";
  CHECK(make_method(recipe).outer.norms == Norms::kAuxiliary);
  recipe.natural_weight = 0;
  CHECK_THROWS_AS(make_method(recipe), Error);
  recipe.natural_weight = -1;
  for (const char* method : {"standard", "pgd-at", "fast-at", "dat-fgsm"}) {
    recipe.method = method;
    CHECK_THROWS_AS(make_method(recipe), Error);
  }
}

TEST_CASE("TRADES' attack drives the attacked images' answers away from the images'", "[step]") {
  Training t("preact_resnet18", by_trades());
  const AttackInput input = t.batch(0, 16);
  const auto divergence = [&](int steps) {
    AttackOptions options = trades({.norm = Norm::kLinf, .eps = 0.1}, steps, 0.02);
    Pool pool;
    TrainingAttack attack(t.exec, pool, *t.model, options);
    const Tensor x_adv = attack.run(input).x_adv;
    const Tensor natural = natural_logits(t.exec, pool, *t.model, options, input.x_nat);
    const InputGradient g = input_gradient(t.exec, pool, *t.model, options, x_adv,
                                           {input.labels, natural}, Wrt::kNothing);
    double sum = 0;
    for (const double loss : values_of(g.loss)) {
      CHECK(loss > -1e-6);
      sum += loss;
    }
    const std::vector<double> x = values_of(input.x_nat), moved = values_of(x_adv);
    for (size_t i = 0; i < x.size(); ++i) {
      CHECK(std::abs(moved[i] - x[i]) <= 0.1 + 1e-7);
      CHECK((moved[i] >= 0 && moved[i] <= 1));
    }
    return sum;
  };
  const double one = divergence(1), three = divergence(3), ten = divergence(10);
  CHECK(one > 0);
  CHECK(three > 2 * one);
  CHECK(ten > three);
}

}  // namespace ringfort::test
