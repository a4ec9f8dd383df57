// Evaluation: what is counted, on which images, and that nobody's word is taken for it.
#include "adversarial/evaluate.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/temp_folder.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

constexpr int kSize = 4;
constexpr int64_t kPixels = kSize * kSize;

// Two classes whose logits differ by w . x + b, w of both signs.
class Margins {
 public:
  Margins() : model_(kSize, 1, 2) {
    for (int64_t i = 0; i < kPixels; ++i) model_.weights(0)[i] = static_cast<float>(i % 5) - 2.0f;
    model_.bias()[0] = 1;  // as many on either side
    model_.params().master_and_copy_changed();
  }
  LinearModel& model() { return model_; }

  // How far the image is on the side of `label`.
  double margin(const Dataset& data, int64_t n, int32_t label) {
    double z = static_cast<double>(model_.bias()[0]);
    for (int64_t i = 0; i < kPixels; ++i)
      z += static_cast<double>(model_.weights(0)[i]) *
           data.pixels[static_cast<size_t>(n * kPixels + i)] / 255.0;
    return label == 0 ? z : -z;
  }
  double l1() {
    double sum = 0;
    for (int64_t i = 0; i < kPixels; ++i)
      sum += std::fabs(static_cast<double>(model_.weights(0)[i]));
    return sum;
  }

 private:
  LinearModel model_;
};

// Grey levels far from the ends, so that only the ball binds; labels without a period.
Dataset grey_images(int64_t count) {
  Dataset data;
  data.name = "grey";
  data.count = count;
  data.height = data.width = kSize;
  data.channels = 1;
  data.class_names = {"zero", "one"};
  const RandomKey key{5, Purpose::kTest, 0};
  for (int64_t n = 0; n < count; ++n) {
    for (uint32_t i = 0; i < kPixels; ++i)
      data.pixels.push_back(static_cast<uint8_t>(100 + key.word(static_cast<uint64_t>(n), i) % 56));
    data.labels.push_back(static_cast<int32_t>(key.word(static_cast<uint64_t>(n), 100) % 2));
  }
  return data;
}

EvaluateOptions pgd_options(double eps) {
  EvaluateOptions options;
  options.attack = pgd(ThreatModel{.eps = eps}, 10, eps / 4);
  options.attack.stop = StopRule::kOnSuccess;
  options.attack.restarts = 2;
  options.n = 30;
  options.batch_size = 8;
  options.examples = 6;
  return options;
}

}  // namespace

TEST_CASE("evaluate() counts, sample by sample, what closed forms say", "[evaluate]") {
  Exec exec;
  Pool pool;
  Margins m;
  const Dataset test = grey_images(50);
  const EvaluateOptions options = pgd_options(0.01);
  int64_t told = 0;
  EvaluateOptions watched = options;
  watched.progress = [&](int64_t done, int64_t total) {
    CHECK(done >= told);
    CHECK(total == 30);
    told = done;
  };
  const Evaluation e = evaluate(exec, pool, m.model(), test, watched);
  CHECK(told == 30);
  CHECK(e.n == 30);
  CHECK(e.labels == std::vector<int32_t>(test.labels.begin(), test.labels.begin() + 30));
  REQUIRE(e.clean_correct.size() == 30);
  REQUIRE(e.robust_correct.size() == 30);
  int clean = 0, robust = 0;
  for (size_t i = 0; i < 30; ++i) {
    INFO("image " << i);
    const double margin = m.margin(test, static_cast<int64_t>(i), e.labels[i]);
    const double worst = margin - 0.01 * m.l1();
    REQUIRE(std::min(std::fabs(margin), std::fabs(worst)) > 1e-4);  // no ties in float32
    CHECK(e.clean_correct[i] == (margin > 0));
    CHECK(e.robust_correct[i] == (worst > 0));
    CHECK(e.clean_predictions[i] == (margin > 0 ? e.labels[i] : 1 - e.labels[i]));
    CHECK(e.adversarial_predictions[i] == (worst > 0 ? e.labels[i] : 1 - e.labels[i]));
    clean += margin > 0;
    robust += worst > 0;
  }
  // All three fates occur: wrong, fooled, robust.
  CHECK(robust > 3);
  CHECK(clean > robust + 3);
  CHECK(clean < 27);
  CHECK(e.clean_accuracy == clean / 30.0);
  CHECK(e.robust_accuracy == robust / 30.0);
  CHECK(e.attack == "pgd");
  CHECK(e.eps == 0.01);
  CHECK(e.alpha == 0.0025);
  CHECK(e.steps == 10);
  CHECK(e.restarts == 2);
  CHECK(e.dataset == "grey");
  CHECK(e.model == "linear");
}

TEST_CASE("evaluate() keeps images beside their adversarial versions, fooled and not",
          "[evaluate]") {
  Exec exec;
  Pool pool;
  Margins m;
  const Dataset test = grey_images(50);
  const Evaluation e = evaluate(exec, pool, m.model(), test, pgd_options(0.01));
  REQUIRE(e.examples.size() == 6);
  int fooled = 0;
  for (const AdversarialExample& x : e.examples) {
    const auto at = static_cast<size_t>(x.sample);
    CHECK(x.label == e.labels[at]);
    CHECK(x.clean_prediction == x.label);
    CHECK(x.adversarial_prediction == e.adversarial_predictions[at]);
    fooled += x.adversarial_prediction != x.label;
    REQUIRE(x.x_nat.size() == kPixels);
    REQUIRE(x.x_adv.size() == kPixels);
    for (size_t i = 0; i < kPixels; ++i) {
      CHECK(x.x_nat[i] == Approx(test.pixels[at * kPixels + i] / 255.0));
      CHECK(std::fabs(x.x_adv[i] - x.x_nat[i]) <= 0.01f + 1e-6f);
    }
    CHECK(x.x_adv != x.x_nat);
  }
  CHECK(fooled == 3);  // half of them
}

TEST_CASE("evaluate() takes all images there are for n = 0 and for more than there are",
          "[evaluate]") {
  Exec exec;
  Pool pool;
  Margins m;
  const Dataset test = grey_images(9);
  EvaluateOptions options = pgd_options(0.01);
  for (const int64_t n : {0, 9, 1000}) {
    options.n = n;
    const Evaluation e = evaluate(exec, pool, m.model(), test, options);
    CHECK(e.n == 9);
    CHECK(e.labels == test.labels);
  }
  Dataset other = test;
  other.class_names.push_back("two");
  CHECK_THAT(error_of([&] { evaluate(exec, pool, m.model(), other, options); }),
             Contains("2 classes") && Contains("grey has 4 x 4 x 1 and 3"));
}

TEST_CASE("judge() believes only forward passes on images inside the threat model", "[evaluate]") {
  Exec exec;
  Pool pool;
  Margins m;
  const Dataset test = grey_images(3);
  const EvaluateOptions options = pgd_options(0.5);
  AttackInput input = random_input(pool, {3, kSize, kSize, 1}, 2, 1, 0.4f, 0.6f);
  const std::vector<int32_t> clean = predict(exec, pool, m.model(), input.x_nat);
  Evaluation e;
  e.n = 3;
  e.labels = {clean[0], clean[1], 1 - clean[2]};
  // Sample 0 stays as it is, 1 is moved over to the other class, 2 from the wrong class to the
  // right one, which helps no attacker and makes nothing robust.
  Tensor x_adv(pool, input.x_nat.shape(), Dtype::kFloat32);
  std::copy_n(input.x_nat.as<const float>(), 3 * kPixels, x_adv.as<float>());
  for (const int64_t n : {1, 2})
    for (int64_t i = 0; i < kPixels; ++i) {
      const bool raise = (m.model().weights(0)[i] > 0) == (clean[static_cast<size_t>(n)] == 1);
      x_adv.as<float>()[n * kPixels + i] += raise ? 0.39f : -0.39f;
    }
  judge(exec, pool, m.model(), input.x_nat, x_adv, options, e);
  CHECK(e.clean_correct == std::vector<uint8_t>{1, 1, 0});
  CHECK(e.robust_correct == std::vector<uint8_t>{1, 0, 0});
  CHECK(e.adversarial_predictions == std::vector<int32_t>{clean[0], 1 - clean[1], 1 - clean[2]});
  CHECK(e.clean_accuracy == Approx(2 / 3.0));
  CHECK(e.robust_accuracy == Approx(1 / 3.0));
  CHECK(e.examples.size() == 2);

  const EvaluateOptions smaller = pgd_options(0.3);
  CHECK_THAT(error_of([&] { judge(exec, pool, m.model(), input.x_nat, x_adv, smaller, e); }),
             Contains("sample 1 is") && Contains("threat model"));
  x_adv.as<float>()[0] = 1.01f;
  CHECK_THAT(error_of([&] { judge(exec, pool, m.model(), input.x_nat, x_adv, options, e); }),
             Contains("outside [0, 1]"));
}

TEST_CASE("a network without predictions is no network that answers class 0", "[evaluate]") {
  Exec exec;
  Pool pool;
  Margins m;
  const AttackInput input = random_input(pool, {5, kSize, kSize, 1}, 2, 1, 0.4f, 0.6f);
  CHECK(predict(exec, pool, m.model(), input.x_nat, 2).size() == 5);
  // Too bright an image overflows.
  m.model().weights(1)[3] = 3e38f;
  m.model().weights(1)[4] = 3e38f;
  m.model().params().master_and_copy_changed();
  input.x_nat.as<float>()[3 * kPixels + 3] = input.x_nat.as<float>()[3 * kPixels + 4] = 0.9f;
  CHECK_THAT(error_of([&] { predict(exec, pool, m.model(), input.x_nat, 2); }),
             Contains("no prediction for image 3"));
  m.model().bias()[0] = std::nanf("");
  m.model().params().master_and_copy_changed();
  CHECK_THAT(error_of([&] { evaluate(exec, pool, m.model(), grey_images(4), pgd_options(0.01)); }),
             Contains("no prediction for image 0"));
}
