// Attacks: closed forms on a linear model, and the invariants every attack keeps.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "adversarial/attack.h"
#include "adversarial/attack_steps.h"
#include "adversarial/evaluate.h"
#include "tests/temp_folder.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;

namespace {

// Two classes; w_0 - w_1 has entries of both signs and some zeros.
std::unique_ptr<LinearModel> two_class_model(int64_t size, int64_t channels) {
  auto model = std::make_unique<LinearModel>(size, channels, 2);
  const int64_t length = size * size * channels;
  for (int64_t i = 0; i < length; ++i) {
    model->weights(0)[i] = static_cast<float>(i % 5) - 2.0f;
    model->weights(1)[i] = static_cast<float>(i % 3) * 0.25f;
  }
  model->bias()[0] = 0.5f;
  model->params().master_and_copy_changed();
  return model;
}

double margin(LinearModel& model, const Tensor& x, int64_t n, int32_t label, int64_t length) {
  double z[2];
  for (int k = 0; k < 2; ++k) {
    z[k] = static_cast<double>(model.bias()[k]);
    for (int64_t i = 0; i < length; ++i)
      z[k] += static_cast<double>(model.weights(k)[i]) *
              static_cast<double>(x.as<const float>()[n * length + i]);
  }
  return z[label] - z[1 - label];
}

std::vector<std::byte> bytes_of(const View& view) {
  const auto* first = static_cast<const std::byte*>(view.data);
  return {first, first + view.bytes()};
}

AttackOptions l2_pgd(double eps, int steps, double alpha) {
  ThreatModel threat;
  threat.norm = Norm::kL2;
  threat.eps = eps;
  return pgd(threat, steps, alpha);
}

AttackOptions linf_pgd(double eps, int steps, double alpha) {
  ThreatModel threat;
  threat.eps = eps;
  return pgd(threat, steps, alpha);
}

}  // namespace

TEST_CASE("on a linear model PGD lowers the margin by eps times the dual norm", "[attack]") {
  Exec exec;
  Pool pool;
  const int64_t length = 4 * 4 * 3;
  const auto model = two_class_model(4, 3);
  // Pixels far from the box, so that only the ball binds.
  const AttackInput input = random_input(pool, {6, 4, 4, 3}, 2, 7, 0.4f, 0.6f);
  double l1 = 0, l2 = 0;
  for (int64_t i = 0; i < length; ++i) {
    const double w = static_cast<double>(model->weights(0)[i] - model->weights(1)[i]);
    l1 += std::fabs(w);
    l2 += w * w;
  }
  const double eps = 0.05;
  AttackOptions linf = linf_pgd(eps, 10, eps / 4);
  AttackOptions l2_attack = l2_pgd(eps, 10, eps / 2);
  for (AttackOptions* options : {&linf, &l2_attack}) {
    TrainingAttack attack(exec, pool, *model, *options);
    const Tensor x_adv = attack.run(input).x_adv;
    const double dual = options == &linf ? l1 : std::sqrt(l2);
    // L2 converges to the boundary's best point only in direction: ten steps of eps/2 from a random
    // start come within a percent.
    const double tolerance = options == &linf ? 1e-5 : 1e-2;
    for (int64_t n = 0; n < 6; ++n) {
      const int32_t label = input.labels.as<const int32_t>()[n];
      const double drop =
          margin(*model, input.x_nat, n, label, length) - margin(*model, x_adv, n, label, length);
      CHECK(drop == Approx(eps * dual).epsilon(tolerance));
      CHECK(drop <= eps * dual * (1 + 1e-5));
    }
    CHECK(attack.weight_gradients() == 0);
  }
}

TEST_CASE("FGSM moves every pixel with a gradient by eps and no other", "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = two_class_model(4, 1);
  const AttackInput input = random_input(pool, {3, 4, 4, 1}, 2, 3, 0.3f, 0.7f);
  ThreatModel threat;
  threat.eps = 0.125;
  TrainingAttack attack(exec, pool, *model, fgsm(threat));
  const Tensor x_adv = attack.run(input).x_adv;
  for (int64_t n = 0; n < 3; ++n)
    for (int64_t i = 0; i < 16; ++i) {
      const float w = model->weights(0)[i] - model->weights(1)[i];
      const float towards = input.labels.as<const int32_t>()[n] == 0 ? -w : w;
      const float d =
          x_adv.as<const float>()[n * 16 + i] - input.x_nat.as<const float>()[n * 16 + i];
      if (w == 0)
        CHECK(d == 0);
      else
        CHECK(d == Approx(towards > 0 ? 0.125 : -0.125).epsilon(1e-5));
    }
}

TEST_CASE("an attack stays inside the ball and the box, exactly", "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = make_model(tiny_spec("cnn_small", 4, 8, 3));
  initialize(exec, model->params(), 5);
  // Pixels at and near the ends of the box, where clipping matters.
  const AttackInput input = random_input(pool, {9, 8, 8, 3}, 4, 11, 0.0f, 1.0f);
  for (int64_t i = 0; i < input.x_nat.view().count(); i += 3)
    input.x_nat.as<float>()[i] = i % 2 == 0 ? 0.0f : 1.0f;
  for (const AttackOptions& options :
       {linf_pgd(8.0 / 255, 7, 2.0 / 255), linf_pgd(0.5, 3, 0.4), l2_pgd(0.5, 5, 0.2)}) {
    TrainingAttack training(exec, pool, *model, options);
    const AttackResult evaluated = attack(exec, pool, *model, input, options, 4);
    for (const Tensor& x_adv : {training.run(input).x_adv, evaluated.x_adv}) {
      verify_threat_model(options.threat, x_adv, input.x_nat);
      if (options.threat.norm == Norm::kL2) continue;
      const auto eps = static_cast<float>(options.threat.eps);
      for (int64_t i = 0; i < x_adv.view().count(); ++i) {
        const float nat = input.x_nat.as<const float>()[i], adv = x_adv.as<const float>()[i];
        REQUIRE(adv <= nat + eps);
        REQUIRE(adv >= nat - eps);
        REQUIRE(adv >= 0);
        REQUIRE(adv <= 1);
      }
    }
  }
}

TEST_CASE("an x_adv outside the threat model is refused by name", "[attack]") {
  Pool pool;
  const AttackInput input = random_input(pool, {2, 4, 4, 1}, 2, 3, 0.4f, 0.6f);
  Tensor x_adv(pool, input.x_nat.shape(), Dtype::kFloat32);
  const auto reset = [&] {
    std::memcpy(x_adv.view().data, input.x_nat.view().data,
                static_cast<size_t>(x_adv.view().bytes()));
  };
  ThreatModel threat;
  threat.eps = 0.1;
  reset();
  CHECK_NOTHROW(verify_threat_model(threat, x_adv, input.x_nat));
  x_adv.as<float>()[17] += 0.11f;
  CHECK(error_of([&] { verify_threat_model(threat, x_adv, input.x_nat); }).find("sample 1 is") !=
        std::string::npos);
  reset();
  x_adv.as<float>()[3] = std::nanf("");
  CHECK(error_of([&] { verify_threat_model(threat, x_adv, input.x_nat); }).find("outside [0, 1]") !=
        std::string::npos);
  threat.norm = Norm::kL2;
  reset();
  for (int i = 0; i < 16; ++i) x_adv.as<float>()[i] += 0.03f;  // |d|_2 = 0.12
  CHECK(error_of([&] { verify_threat_model(threat, x_adv, input.x_nat); }).find("in L2") !=
        std::string::npos);
}

TEST_CASE("attacks leave weights, gradients and statistics as they were, bit for bit", "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = make_model(tiny_spec("preact_resnet18", 16, 8, 3));
  ParamStore& params = model->params();
  initialize(exec, params, 5);
  std::fill_n(params.flat_gradient().as<float>(), params.flat_gradient().count(), 3.25f);
  const auto master = bytes_of(params.flat_master());
  const auto gradient = bytes_of(params.flat_gradient());
  const auto statistics = bytes_of(params.flat_statistics());
  const AttackInput input = random_input(pool, {4, 8, 8, 3}, 4, 1);
  for (const AttackBn bn : {AttackBn::kEval, AttackBn::kTrain, AttackBn::kTrainTrack}) {
    AttackOptions options = linf_pgd(8.0 / 255, 3, 2.0 / 255);
    options.bn = bn;
    TrainingAttack attack(exec, pool, *model, options);
    attack.run(input);
    CHECK(attack.weight_gradients() == 0);
    CHECK(bytes_of(params.flat_master()) == master);
    CHECK(bytes_of(params.flat_gradient()) == gradient);
    // Tracking is the one mode that moves the running statistics, because its source does.
    CHECK((bytes_of(params.flat_statistics()) == statistics) == (bn != AttackBn::kTrainTrack));
  }
}

TEST_CASE("a random start depends on the sample, not on its batch", "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = two_class_model(4, 3);  // the sign of its gradient is the same for any batch
  const AttackOptions options = linf_pgd(0.1, 2, 0.02);
  TrainingAttack whole(exec, pool, *model, options), part(exec, pool, *model, options);
  const AttackInput all = random_input(pool, {6, 4, 4, 3}, 2, 9);
  const AttackInput last = random_input(pool, {2, 4, 4, 3}, 2, 9, 0, 1, 4);
  const std::vector<float> from_all = elements(whole.run(all).x_adv),
                           from_part = elements(part.run(last).x_adv);
  CHECK(std::equal(from_part.begin(), from_part.end(), from_all.begin() + 4 * 48));

  AttackInput next_epoch = all;
  next_epoch.epoch = 1;
  CHECK(elements(whole.run(next_epoch).x_adv) != from_all);
  CHECK(elements(whole.run(all).x_adv) == from_all);
}

TEST_CASE("an evaluation gives each sample the same result in any batch size", "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = two_class_model(4, 3);
  const AttackInput input = random_input(pool, {23, 4, 4, 3}, 2, 21, 0.2f, 0.8f);
  AttackOptions options = linf_pgd(0.06, 5, 0.02);
  options.restarts = 3;
  options.stop = StopRule::kOnSuccess;
  const AttackResult once = attack(exec, pool, *model, input, options, 64);
  const auto fooled = std::count(once.fooled.begin(), once.fooled.end(), uint8_t{1});
  REQUIRE(fooled > 2);
  REQUIRE(fooled < 22);
  for (const int64_t batch : {1, 4, 7, 23}) {
    const AttackResult again = attack(exec, pool, *model, input, options, batch);
    CHECK(again.fooled == once.fooled);
    CHECK(again.predictions == once.predictions);
    CHECK(elements(again.x_adv) == elements(once.x_adv));
  }
}

TEST_CASE("every sample is attacked away from its own label, wherever its slot moves", "[attack]") {
  // Ten classes: which way is up depends on the label, unlike with two.
  constexpr int64_t kClasses = 10, kCount = 40, kLength = 5 * 5;
  Exec exec;
  Pool pool;
  LinearModel model(5, 1, kClasses);
  const RandomKey key{8, Purpose::kTest, 0};
  for (int64_t k = 0; k < kClasses; ++k)
    for (int64_t i = 0; i < kLength; ++i)
      model.weights(k)[i] =
          uniform01(key.word(static_cast<uint64_t>(k), static_cast<uint32_t>(i))) - 0.5f;
  model.params().master_and_copy_changed();
  AttackInput input = random_input(pool, {kCount, 5, 5, 1}, kClasses, 9, 0.2f, 0.8f);
  const std::vector<int32_t> agreed = predict(exec, pool, model, input.x_nat);
  std::copy(agreed.begin(), agreed.end(), input.labels.as<int32_t>());
  AttackOptions options = linf_pgd(0.02, 6, 0.005);
  options.restarts = 3;
  options.stop = GENERATE(StopRule::kOnSuccess, StopRule::kAllSteps);
  // One at a time: no slot ever moves.
  const AttackResult alone = attack(exec, pool, model, input, options, 1);
  const auto fooled = std::count(alone.fooled.begin(), alone.fooled.end(), uint8_t{1});
  REQUIRE(fooled > kCount / 4);
  REQUIRE(fooled < 3 * kCount / 4);
  for (const int64_t batch : {kCount, int64_t{16}}) {
    const AttackResult together = attack(exec, pool, model, input, options, batch);
    CHECK(together.fooled == alone.fooled);
    CHECK(together.predictions == alone.predictions);
    const std::vector<float> a = elements(alone.x_adv), b = elements(together.x_adv);
    // A gradient of almost 0 may have either sign in another batch; another label's has for half.
    int64_t apart = 0;
    for (size_t i = 0; i < a.size(); ++i) apart += std::fabs(a[i] - b[i]) > 1e-4f;
    CHECK(apart < kCount * kLength / 100);
  }
}

TEST_CASE("a gradient is asked for every step and not for the last iterate", "[attack]") {
  class Counting final : public Model {
   public:
    Counting() : Model(LinearModel::spec_of(4, 1, 2), Dtype::kFloat32) {
      layer_ = LayerBuilder(params()).linear("fc", 16, 2);
      allocate();
    }
    int with_gradient = 0, without = 0;

   private:
    Var body(Pass& p, Var x) override {
      ++(p.options.wrt == Wrt::kNothing ? without : with_gradient);
      return linear(p, flatten(p, std::move(x)), layer_, Activation::kNone, logits_dtype(p));
    }
    LinearParams layer_;
  };
  Exec exec;
  Pool pool;
  Counting model;  // all weights 0: every logit is equal, every sample is class 0
  std::fill_n(model.params().flat_master().as<float>(), model.params().flat_master().count(), 0.0f);
  model.params().master_and_copy_changed();
  const AttackInput input = random_input(pool, {5, 4, 4, 1}, 1, 2);
  AttackOptions options = linf_pgd(0.1, 4, 0.02);
  options.restarts = 3;
  options.stop = StopRule::kOnSuccess;
  const AttackResult result = attack(exec, pool, model, input, options, 8);
  CHECK(result.fooled == std::vector<uint8_t>(5, 0));
  CHECK(model.with_gradient == 3 * 4);
  CHECK(model.without == 3 + 2);  // the ends of three restarts; before and after them
}

TEST_CASE("a success that the last pass does not confirm is no end of the attack", "[attack]") {
  // Stands for rounding that differs between batches: where the batch is full, the bias helps.
  class Moody final : public Model {
   public:
    Moody() : Model(LinearModel::spec_of(2, 1, 2), Dtype::kFloat32) {
      LayerBuilder build(params());
      calm_ = build.linear("calm", 4, 2);
      wrong_ = build.linear("wrong", 4, 2);
      allocate();
      for (const LinearParams& layer : {calm_, wrong_}) {
        float* w = params().master(layer.weight).as<float>();
        float* b = params().master(layer.bias).as<float>();
        for (int i = 0; i < 4; ++i) w[i] = 1, w[4 + i] = 0;
        b[0] = layer.bias == wrong_.bias ? -100 : -1.5f;
        b[1] = 0;
      }
      params().master_and_copy_changed();
    }

   private:
    Var body(Pass& p, Var x) override {
      const bool full = x.value.shape().n == 4;
      return linear(p, flatten(p, std::move(x)), full ? calm_ : wrong_, Activation::kNone,
                    logits_dtype(p));
    }
    LinearParams calm_, wrong_;
  };
  Exec exec;
  Pool pool;
  Moody model;
  AttackInput input = random_input(pool, {4, 2, 2, 1}, 1, 3, 0.5f, 0.5f);
  input.labels.as<int32_t>()[3] = 1;  // wrong as it is: three samples are left to attack
  // 4 * 0.5 - 1.5 = 0.5 on the side of class 0, and 4 eps = 0.8 can be taken away.
  AttackOptions options = linf_pgd(0.2, 5, 0.1);
  options.stop = StopRule::kOnSuccess;
  const AttackResult result = attack(exec, pool, model, input, options, 4);
  CHECK(result.clean_predictions == std::vector<int32_t>{0, 0, 0, 0});
  CHECK(result.fooled == std::vector<uint8_t>{1, 1, 1, 1});
}

TEST_CASE("robust accuracy on a linear model is known sample by sample", "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = two_class_model(4, 3);
  const int64_t length = 48;
  const AttackInput input = random_input(pool, {40, 4, 4, 3}, 2, 4, 0.3f, 0.7f);
  double l1 = 0;
  for (int64_t i = 0; i < length; ++i)
    l1 += std::fabs(static_cast<double>(model->weights(0)[i] - model->weights(1)[i]));
  AttackOptions options = linf_pgd(0.04, 8, 0.01);
  options.stop = StopRule::kOnSuccess;
  const AttackResult result = attack(exec, pool, *model, input, options, 16);
  for (int64_t n = 0; n < 40; ++n) {
    const double m = margin(*model, input.x_nat, n, input.labels.as<const int32_t>()[n], length);
    const double after = m - 0.04 * l1;
    if (std::fabs(after) < 1e-4) continue;  // a tie in float32
    CHECK(bool(result.fooled[static_cast<size_t>(n)]) == (after < 0));
  }
}

TEST_CASE("every restart starts elsewhere", "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = two_class_model(4, 3);
  AttackInput input = random_input(pool, {32, 4, 4, 3}, 2, 5, 0.3f, 0.7f);
  const std::vector<int32_t> agreed = predict(exec, pool, *model, input.x_nat);
  std::copy(agreed.begin(), agreed.end(), input.labels.as<int32_t>());
  // A step of size 0 leaves the start as it is: the best of R restarts is the best of R starts.
  AttackOptions options = linf_pgd(1e-3, 1, 0);
  std::vector<std::vector<float>> best;
  for (const int restarts : {1, 2, 8}) {
    options.restarts = restarts;
    best.push_back(elements(attack(exec, pool, *model, input, options, 8).x_adv));
  }
  const auto changed = [&](const std::vector<float>& from, const std::vector<float>& to) {
    int count = 0;
    for (int n = 0; n < 32; ++n)
      count += !std::equal(from.begin() + n * 48, from.begin() + (n + 1) * 48, to.begin() + n * 48);
    return count;
  };
  // The first of R independent starts is the best with probability 1/R: 16 and 28 of 32 expected,
  // with standard deviations of 2.8 and 1.9.
  CHECK(changed(best[0], best[1]) >= 5);
  CHECK(changed(best[0], best[1]) <= 27);
  CHECK(changed(best[0], best[2]) >= 21);
}

TEST_CASE("what fools only bfloat16 does not count", "[attack]") {
  Exec exec;
  Pool pool;
  // z0 - z1 = 0.001 x - 1e-4 > 0 at x = 0.5; bfloat16 rounds 1.001 to 1, and class 1 wins.
  LinearModel model(1, 1, 2, true);
  model.weights(0)[0] = 1.001f;
  model.weights(1)[0] = 1.0f;
  model.bias()[0] = 0;
  model.bias()[1] = 1e-4f;
  model.params().master_changed(exec);
  AttackInput input = random_input(pool, {3, 1, 1, 1}, 1, 1, 0.5f, 0.5f);
  AttackOptions options = linf_pgd(0, 2, 0);
  options.dtype = Dtype::kBFloat16;
  options.stop = StopRule::kOnSuccess;
  const InputGradient in_bfloat16 =
      input_gradient(exec, pool, model, options, input.x_nat, {input.labels});
  REQUIRE(in_bfloat16.prediction.as<const int32_t>()[0] == 1);
  const AttackResult result = attack(exec, pool, model, input, options);
  CHECK(result.clean_predictions == std::vector<int32_t>{0, 0, 0});
  CHECK(result.predictions == std::vector<int32_t>{0, 0, 0});
  CHECK(result.fooled == std::vector<uint8_t>{0, 0, 0});
}

TEST_CASE("more steps, restarts and eps never raise robust accuracy, and eps 0 changes nothing",
          "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = make_model(tiny_spec("cnn_small", 4, 8, 1));
  initialize(exec, model->params(), 2);
  AttackInput input = random_input(pool, {32, 8, 8, 1}, 4, 17);
  // Labels the model agrees with, so that there is something to lose.
  const std::vector<int32_t> agreed = predict(exec, pool, *model, input.x_nat);
  std::copy(agreed.begin(), agreed.end(), input.labels.as<int32_t>());
  const auto standing = [&](AttackOptions options) {
    options.stop = StopRule::kOnSuccess;
    const AttackResult result = attack(exec, pool, *model, input, options, 8);
    return std::count(result.fooled.begin(), result.fooled.end(), uint8_t{0});
  };
  AttackOptions none = linf_pgd(0, 2, 0.1);
  CHECK(standing(none) == 32);
  CHECK(elements(attack(exec, pool, *model, input, none, 8).x_adv) == elements(input.x_nat));

  AttackOptions options = linf_pgd(0.02, 1, 0.01);
  const auto one_step = standing(options);
  options.restarts = 4;
  CHECK(standing(options) <= one_step);
  const auto small = standing(linf_pgd(0.02, 10, 0.005)), large = standing(linf_pgd(0.5, 10, 0.1));
  CHECK(small <= one_step);
  CHECK(large < small);
}

TEST_CASE("once fooled, a sample stays fooled whatever later steps do", "[attack]") {
  Exec exec;
  Pool pool;
  // One pixel decides: class 1 wins only inside a narrow band, and large steps jump over it and
  // back.
  const auto model = make_model(tiny_spec("cnn_small", 4, 8, 1));
  initialize(exec, model->params(), 8);
  const AttackInput input = random_input(pool, {24, 8, 8, 1}, 4, 30);
  AttackOptions options = linf_pgd(0.3, 6, 0.3);
  options.stop = StopRule::kAllSteps;
  const AttackResult all_steps = attack(exec, pool, *model, input, options, 24);
  options.stop = StopRule::kOnSuccess;
  const AttackResult early = attack(exec, pool, *model, input, options, 24);
  CHECK(all_steps.fooled == early.fooled);
}

TEST_CASE("settings that make no sense are refused", "[attack]") {
  Exec exec;
  Pool pool;
  const auto model = two_class_model(4, 1);
  const AttackInput input = random_input(pool, {2, 4, 4, 1}, 2, 3);
  AttackOptions options = linf_pgd(0.1, 0, 0.1);
  CHECK(error_of([&] { attack(exec, pool, *model, input, options); }).find("at least 1 step") !=
        std::string::npos);
  options = linf_pgd(-0.1, 1, 0.1);
  CHECK(error_of([&] { attack(exec, pool, *model, input, options); }).find("negative") !=
        std::string::npos);
  options = linf_pgd(0.1, 1, 0.1);
  options.bn = AttackBn::kTrain;
  CHECK(error_of([&] { attack(exec, pool, *model, input, options); }).find("running ones") !=
        std::string::npos);
  const AttackInput wrong = random_input(pool, {2, 5, 4, 1}, 2, 3);
  options.bn = AttackBn::kEval;
  CHECK(error_of([&] {
          attack(exec, pool, *model, wrong, options);
        }).find("takes images of 4 x 4 x 1") != std::string::npos);
}
