// Cross-entropy: gradient against dual numbers, value against long double, ties, offsets and
// errors.
#include "kernels/loss.h"

#include <catch2/catch.hpp>
#include <cfloat>
#include <limits>

#include "kernels/rows.h"
#include "tests/dual.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;
using testing::relative_error;

// loss_n = log(sum_k exp(z_k)) - z_label in long double, and weight (softmax - onehot)
struct Plain {
  std::vector<double> loss, dlogits;
  Plain(const std::vector<double>& z, const std::vector<double>& labels, size_t classes,
        double weight) {
    for (size_t n = 0; n < labels.size(); ++n) {
      const double* row = z.data() + n * classes;
      const size_t label = static_cast<size_t>(labels[n]);
      const long double largest = *std::max_element(row, row + classes);
      long double total = 0;
      for (size_t k = 0; k < classes; ++k) total += std::exp(row[k] - largest);
      loss.push_back(static_cast<double>(std::log(total) + largest - row[label]));
      for (size_t k = 0; k < classes; ++k)
        dlogits.push_back(weight * (static_cast<double>(std::exp(row[k] - largest) / total) -
                                    static_cast<double>(k == label)));
    }
  }
};

std::vector<double> labels_for(int64_t rows, int64_t classes) {
  return testing::random_integers(rows, 77, 0, static_cast<int>(classes) - 1);
}

// The gradient of TradesRow's loss at logits z and z_adv, by dual numbers: j < classes moves z_j,
// the others z_adv.
double trades_slope(const std::vector<double>& z, const std::vector<double>& z_adv, int32_t label,
                    const TradesWeights& w, size_t j) {
  std::vector<Dual> duals[2];
  for (size_t k = 0; k < z.size(); ++k) {
    duals[0].emplace_back(z[k], k == j ? 1 : 0);
    duals[1].emplace_back(z_adv[k], k + z.size() == j ? 1 : 0);
  }
  Dual loss;
  TradesRow<Dual>{duals[0].data(),
                  duals[1].data(),
                  {&label, Dual(w.smoothing)},
                  static_cast<int64_t>(z.size()),
                  Dual(1),
                  Dual(w.natural),
                  Dual(w.beta),
                  &loss,
                  nullptr,
                  nullptr,
                  nullptr}(CpuRow{}, 0);
  return loss.slope;
}

}  // namespace

TEST_CASE("CrossEntropyRow: dlogits is the derivative of the loss") {
  const float share = 0.625f;
  for (const auto& [smoothing, mixed] :
       {std::pair{0.0, false}, {0.125, false}, {0.0, true}, {0.125, true}})
    for (const int64_t classes : {1, 2, 10, 33}) {
      const std::vector<double> z = random_vector(classes, 1, -4, 4);
      const int32_t label = static_cast<int32_t>(classes / 2), other = 0;
      const int32_t* const others = mixed ? &other : nullptr;
      double loss = 0;
      std::vector<double> dz(z.size());
      CrossEntropyRow<double>{
          z.data(), {&label, smoothing, others, &share}, classes, 0.5, &loss, dz.data(), nullptr}(
          CpuRow{}, 0);
      for (size_t j = 0; j < z.size(); ++j) {
        std::vector<Dual> duals;
        for (size_t k = 0; k < z.size(); ++k) duals.emplace_back(z[k], k == j ? 1 : 0);
        Dual dual_loss;
        CrossEntropyRow<Dual>{duals.data(), {&label, Dual(smoothing), others, &share},
                              classes,      Dual(1),
                              &dual_loss,   nullptr,
                              nullptr}(CpuRow{}, 0);
        CHECK(dual_loss.value == loss);
        CHECK(std::abs(dz[j] - 0.5 * dual_loss.slope) < 1e-15);
      }
    }
}

TEST_CASE("TradesRow: both gradients are derivatives of the loss") {
  for (const TradesWeights& w :
       {TradesWeights{0.5, 1, 6, 0}, TradesWeights{0.5, 1, 6, 0.125}, TradesWeights{0.5, 0, 1, 0}})
    for (const int64_t classes : {2, 10, 33}) {
      const std::vector<double> z = random_vector(classes, 1, -4, 4),
                                z_adv = random_vector(classes, 2, -4, 4);
      const int32_t label = static_cast<int32_t>(classes / 2);
      double loss = 0;
      std::vector<double> dz(z.size()), dz_adv(z.size());
      int32_t prediction = -1;
      TradesRow<double>{
          z.data(), z_adv.data(), {&label, w.smoothing}, classes,    w.weight, w.natural, w.beta,
          &loss,    dz.data(),    dz_adv.data(),         &prediction}(CpuRow{}, 0);
      for (size_t j = 0; j < z.size(); ++j) {
        CHECK(std::abs(dz[j] - w.weight * trades_slope(z, z_adv, label, w, j)) < 1e-14);
        CHECK(std::abs(dz_adv[j] - w.weight * trades_slope(z, z_adv, label, w, j + z.size())) <
              1e-14);
      }
      CHECK(prediction == std::max_element(z_adv.begin(), z_adv.end()) - z_adv.begin());
    }
}

TEST_CASE("trades_loss: cross-entropy of one side and its divergence from the other") {
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat64})
    for (const auto& [rows, classes] : {std::pair<int64_t, int64_t>{1, 10}, {37, 10}, {5, 1000}}) {
      const Shape shape = matrix_shape(rows, classes);
      const Buffer z(dtype, shape, random_vector(rows * classes, 1, -8, 8)),
          z_adv(dtype, shape, random_vector(rows * classes, 2, -8, 8));
      const Buffer labels(Dtype::kInt32, vector_shape(rows), labels_for(rows, classes));
      const Buffer loss(dtype, vector_shape(rows)), dz(dtype, shape), dz_adv(dtype, shape),
          prediction(Dtype::kInt32, vector_shape(rows));
      Exec exec(kTestDevice, 2);
      trades_loss(exec, loss, dz, dz_adv, prediction, z, z_adv, labels, {0.25, 1, 6, 0});
      // By sums over classes of long doubles.
      const auto k_classes = static_cast<size_t>(classes);
      const Plain natural(z.values(), labels.values(), k_classes, 1),
          adversarial(z_adv.values(), labels.values(), k_classes, 1);
      std::vector<double> expected, expected_dz, expected_dz_adv;
      for (size_t n = 0; n < labels.values().size(); ++n) {
        const auto label = static_cast<size_t>(labels.values()[n]);
        std::vector<double> p(k_classes), q(k_classes), log_ratio(k_classes);
        long double divergence = 0;
        for (size_t k = 0; k < k_classes; ++k) {
          const size_t at = n * k_classes + k;
          p[k] = natural.dlogits[at] + (k == label);
          q[k] = adversarial.dlogits[at] + (k == label);
          // log p_k = z_k - z_label - loss
          const auto log_of = [&](const Buffer& logits, const Plain& side) {
            return logits.values()[at] - logits.values()[n * k_classes + label] - side.loss[n];
          };
          log_ratio[k] = log_of(z, natural) - log_of(z_adv, adversarial);
          divergence += static_cast<long double>(p[k]) * log_ratio[k];
        }
        expected.push_back(static_cast<double>(natural.loss[n] + 6 * divergence));
        for (size_t k = 0; k < k_classes; ++k) {
          expected_dz.push_back(
              0.25 *
              (p[k] - (k == label) + 6 * p[k] * (log_ratio[k] - static_cast<double>(divergence))));
          expected_dz_adv.push_back(0.25 * 6 * (q[k] - p[k]));
        }
      }
      const double tolerance = dtype == Dtype::kFloat64 ? 1e-13 : 16 * FLT_EPSILON;
      CHECK(relative_error(loss.values(), expected) < tolerance);
      CHECK(relative_error(dz.values(), expected_dz) < tolerance);
      CHECK(relative_error(dz_adv.values(), expected_dz_adv) < tolerance);
    }
}

TEST_CASE("losses: a bfloat16 gradient is the float32 gradient, rounded") {
  Exec exec(kTestDevice, 2);
  for (const auto& [rows, classes] : {std::pair<int64_t, int64_t>{37, 10}, {5, 1000}}) {
    const Shape shape = matrix_shape(rows, classes);
    const Buffer z(Dtype::kFloat32, shape, random_vector(rows * classes, 1, -8, 8)),
        z_adv(Dtype::kFloat32, shape, random_vector(rows * classes, 2, -8, 8));
    const Buffer labels(Dtype::kInt32, vector_shape(rows), labels_for(rows, classes));
    std::vector<std::vector<double>> losses;
    std::vector<std::vector<double>> gradients;
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16}) {
      const Buffer loss(Dtype::kFloat32, vector_shape(rows)),
          trades(Dtype::kFloat32, vector_shape(rows));
      const Buffer dz(dtype, shape), natural(dtype, shape), adversarial(dtype, shape);
      cross_entropy(exec, loss, dz, View{}, z, labels, 0.5, 0.1);
      trades_loss(exec, trades, natural, adversarial, View{}, z, z_adv, labels, {0.25, 1, 6, 0.1});
      for (const Buffer* each : {&loss, &trades}) losses.push_back(each->values());
      for (const Buffer* each : {&dz, &natural, &adversarial})
        gradients.push_back(testing::rounded_to(Dtype::kBFloat16, each->values()));
    }
    for (const size_t k : {0u, 1u}) CHECK((losses[k] == losses[k + 2]));
    for (const size_t k : {0u, 1u, 2u}) CHECK((gradients[k] == gradients[k + 3]));
  }
  const Buffer z(Dtype::kFloat64, matrix_shape(1, 3)), loss(Dtype::kFloat64, vector_shape(1)),
      labels(Dtype::kInt32, vector_shape(1)), dz(Dtype::kBFloat16, matrix_shape(1, 3));
  CHECK_THROWS_AS(cross_entropy(exec, loss, dz, View{}, z, labels, 1), Error);
}

TEST_CASE("trades_loss: equal logits diverge by nothing and leave the cross-entropy's gradient") {
  const Buffer z(Dtype::kFloat64, matrix_shape(3, 10), random_vector(30, 1, -8, 8)),
      labels(Dtype::kInt32, vector_shape(3), labels_for(3, 10));
  const Buffer loss(Dtype::kFloat64, vector_shape(3)), dz(Dtype::kFloat64, matrix_shape(3, 10)),
      dz_adv(Dtype::kFloat64, matrix_shape(3, 10)), alone(Dtype::kFloat64, vector_shape(3)),
      dz_alone(Dtype::kFloat64, matrix_shape(3, 10));
  Exec exec(kTestDevice, 1);
  trades_loss(exec, loss, dz, dz_adv, View{}, z, z, labels, {0.5, 1, 6, 0.25});
  cross_entropy(exec, alone, dz_alone, View{}, z, labels, 0.5, 0.25);
  CHECK(relative_error(loss.values(), alone.values()) < 1e-14);
  CHECK(relative_error(dz.values(), dz_alone.values()) < 1e-14);
  CHECK((dz_adv.values() == std::vector<double>(30, 0)));
}

TEST_CASE("trades_loss: NaN in either side's logits and unknown labels spoil the loss") {
  Exec exec(kTestDevice, 1);
  for (const int side : {0, 1}) {
    std::vector<double> values[2] = {random_vector(20, 1), random_vector(20, 2)};
    values[side][13] = std::numeric_limits<double>::quiet_NaN();
    const Buffer z(Dtype::kFloat32, matrix_shape(2, 10), values[0]),
        z_adv(Dtype::kFloat32, matrix_shape(2, 10), values[1]),
        labels(Dtype::kInt32, vector_shape(2), {1, 2}), loss(Dtype::kFloat32, vector_shape(2));
    trades_loss(exec, loss, View{}, View{}, View{}, z, z_adv, labels, {});
    CHECK(std::isfinite(loss.values()[0]));
    CHECK(std::isnan(loss.values()[1]));
  }
}

TEST_CASE("cross_entropy: smoothed labels spread their share over all classes") {
  // z = log(1, 2, 5): p = (1, 2, 5) / 8; t = (0.1, 0.8, 0.1)
  const Buffer z(Dtype::kFloat64, matrix_shape(1, 3), {0, std::log(2.0), std::log(5.0)}),
      labels(Dtype::kInt32, vector_shape(1), {1}), loss(Dtype::kFloat64, vector_shape(1)),
      dz(Dtype::kFloat64, matrix_shape(1, 3));
  Exec exec(kTestDevice, 1);
  cross_entropy(exec, loss, dz, View{}, z, labels, 2, 0.3);
  CHECK(loss.values()[0] ==
        Approx(-(0.1 * std::log(1 / 8.0) + 0.8 * std::log(2 / 8.0) + 0.1 * std::log(5 / 8.0))));
  CHECK(relative_error(dz.values(),
                       {2 * (1 / 8.0 - 0.1), 2 * (2 / 8.0 - 0.8), 2 * (5 / 8.0 - 0.1)}) < 1e-14);
}

TEST_CASE("losses of mixtures are the mixtures of losses, gradients too") {
  constexpr int64_t kRows = 5, kClasses = 7;
  const auto own = labels_for(kRows, kClasses);
  std::vector<double> other, shares;
  for (int64_t n = 0; n < kRows; ++n) {
    other.push_back(own[static_cast<size_t>(kRows - 1 - n)]);  // the middle one's is its own
    shares.push_back(0.125 * static_cast<double>(n + 4));      // 1/2 ... 1
  }
  const Buffer z(Dtype::kFloat64, matrix_shape(kRows, kClasses),
                 random_vector(kRows * kClasses, 1, -8, 8)),
      z_adv(Dtype::kFloat64, matrix_shape(kRows, kClasses),
            random_vector(kRows * kClasses, 2, -8, 8));
  const Buffer others(Dtype::kInt32, vector_shape(kRows), other),
      share(Dtype::kFloat32, vector_shape(kRows), shares);
  Exec exec(kTestDevice, 1);
  struct Losses {
    std::vector<double> loss, dz;
  };
  const auto losses = [&](bool trades, const std::vector<double>& labels,
                          const MixtureViews& mixture) {
    const Buffer y(Dtype::kInt32, vector_shape(kRows), labels),
        loss(Dtype::kFloat64, vector_shape(kRows)),
        dz(Dtype::kFloat64, matrix_shape(kRows, kClasses));
    if (trades)
      trades_loss(exec, loss, dz, View{}, View{}, z, z_adv, y, {0.5, 1, 6, 0.2}, mixture);
    else
      cross_entropy(exec, loss, dz, View{}, z, y, 0.5, 0.2, mixture);
    return Losses{loss.values(), dz.values()};
  };
  for (const bool trades : {false, true}) {
    const Losses both = losses(trades, own, {others, share}), a = losses(trades, own, {}),
                 b = losses(trades, other, {});
    for (size_t i = 0; i < both.dz.size(); ++i) {
      const double s = shares[i / kClasses];
      CHECK(both.dz[i] == Approx(s * a.dz[i] + (1 - s) * b.dz[i]).margin(1e-14));
      if (i % kClasses == 0)
        CHECK(both.loss[i / kClasses] ==
              Approx(s * a.loss[i / kClasses] + (1 - s) * b.loss[i / kClasses]).epsilon(1e-13));
    }
  }
  const Buffer unknown(Dtype::kInt32, vector_shape(kRows), std::vector<double>(kRows, kClasses));
  if (kTestDevice.kind == DeviceKind::kCpu)
    CHECK_THROWS_AS(losses(false, own, {unknown, share}), Error);
  else
    CHECK(std::isnan(losses(false, own, {unknown, share}).loss[0]));
}

TEST_CASE("cross_entropy: losses, gradients and predictions of a batch") {
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat64})
    for (const auto& [rows, classes] :
         {std::pair<int64_t, int64_t>{1, 10}, {37, 10}, {300, 100}, {5, 1000}}) {
      const Buffer z(dtype, matrix_shape(rows, classes), random_vector(rows * classes, 1, -8, 8));
      const Buffer labels(Dtype::kInt32, vector_shape(rows), labels_for(rows, classes));
      const Buffer loss(dtype, vector_shape(rows)), dz(dtype, matrix_shape(rows, classes));
      const Buffer prediction(Dtype::kInt32, vector_shape(rows));
      Exec exec(kTestDevice, 2);
      cross_entropy(exec, loss, dz, prediction, z, labels, 0.25);
      const std::vector<double> zv = z.values();
      const Plain expected(zv, labels.values(), static_cast<size_t>(classes), 0.25);
      const double tolerance = dtype == Dtype::kFloat64 ? 1e-14 : 8 * FLT_EPSILON;
      CHECK(relative_error(loss.values(), expected.loss) < tolerance);
      CHECK(relative_error(dz.values(), expected.dlogits) < tolerance);
      for (int64_t n = 0; n < rows; ++n) {
        const auto row = zv.begin() + n * classes;
        CHECK(prediction.values()[static_cast<size_t>(n)] ==
              static_cast<double>(std::max_element(row, row + classes) - row));
      }
    }
}

TEST_CASE("cross_entropy: large logits neither overflow nor drown the loss") {
  // log 2 must not be rounded away beside 20000
  const Buffer z(Dtype::kFloat32, matrix_shape(3, 2),
                 {20000, 20000, -20000, -20000, 20000, -20000});
  const Buffer labels(Dtype::kInt32, vector_shape(3), {0, 1, 1}),
      loss(Dtype::kFloat32, vector_shape(3));
  const Buffer dz(Dtype::kFloat32, matrix_shape(3, 2));
  Exec exec(kTestDevice, 1);
  cross_entropy(exec, loss, dz, View{}, z, labels, 1);
  CHECK(relative_error(loss.values()[0], std::log(2.0)) < FLT_EPSILON);
  CHECK(relative_error(loss.values()[1], std::log(2.0)) < FLT_EPSILON);
  CHECK(loss.values()[2] == 40000);
  CHECK((dz.values() == std::vector<double>{-0.5, 0.5, 0.5, -0.5, 1, -1}));
}

TEST_CASE("cross_entropy: of equal logits the lowest class is predicted, outputs are optional") {
  const Buffer z(Dtype::kFloat32, matrix_shape(2, 4), {1, 3, 3, 0, 2, 2, 2, 2});
  const Buffer labels(Dtype::kInt32, vector_shape(2), {2, 3}),
      loss(Dtype::kFloat32, vector_shape(2));
  const Buffer prediction(Dtype::kInt32, vector_shape(2));
  Exec exec(kTestDevice, 1);
  cross_entropy(exec, loss, View{}, prediction, z, labels, 1);
  CHECK((prediction.values() == std::vector<double>{1, 0}));
  CHECK(loss.values()[1] == Approx(std::log(4.0)));
}

TEST_CASE("cross_entropy: any NaN spoils the loss, the first logit's also the prediction") {
  for (const int64_t classes : {10, 16, 40}) {
    // row n has a NaN in place n; the largest logit is in the last place, in the last row before it
    std::vector<double> z = random_vector(classes * classes, 1, -4, 4), predicted;
    for (int64_t n = 0; n < classes; ++n) {
      const int64_t best = n == classes - 1 ? classes - 2 : classes - 1;
      z[static_cast<size_t>(n * classes + best)] = 5;
      z[static_cast<size_t>(n * classes + n)] = std::numeric_limits<double>::quiet_NaN();
      predicted.push_back(static_cast<double>(n == 0 ? 0 : best));
    }
    const Buffer logits(Dtype::kFloat32, matrix_shape(classes, classes), z);
    const Buffer labels(Dtype::kInt32, vector_shape(classes), labels_for(classes, classes)),
        loss(Dtype::kFloat32, vector_shape(classes)),
        prediction(Dtype::kInt32, vector_shape(classes));
    Exec exec(kTestDevice, 1);
    cross_entropy(exec, loss, View{}, prediction, logits, labels, 1);
    CHECK((prediction.values() == predicted));
    const std::vector<double> losses = loss.values();
    CHECK(std::count_if(losses.begin(), losses.end(), [](double l) { return std::isnan(l); }) ==
          classes);
  }
}

TEST_CASE("cross_entropy: a row's numbers do not depend on its batch or on threads") {
  const int64_t rows = 200, classes = 100;
  const Buffer z(Dtype::kFloat32, matrix_shape(rows, classes),
                 random_vector(rows * classes, 1, -8, 8));
  const Buffer labels(Dtype::kInt32, {rows, 1, 1, 1}, labels_for(rows, classes));
  const Buffer loss(Dtype::kFloat32, {rows, 1, 1, 1}), dz(Dtype::kFloat32, z.view().shape);
  const Buffer loss_apart(Dtype::kFloat32, {rows, 1, 1, 1}),
      dz_apart(Dtype::kFloat32, z.view().shape);
  Exec serial(kTestDevice, 1), parallel(kTestDevice, 3);
  cross_entropy(parallel, loss, dz, View{}, z, labels, 1);
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 150}, {151, 49}})
    cross_entropy(serial, loss_apart.view().samples(first, count),
                  dz_apart.view().samples(first, count), View{}, z.view().samples(first, count),
                  labels.view().samples(first, count), 1);
  CHECK((loss.bytes() == loss_apart.bytes()));
  CHECK((dz.bytes() == dz_apart.bytes()));
}

TEST_CASE("losses of two parts are added by a weight") {
  Exec exec(kTestDevice, 1);
  const Buffer total(Dtype::kFloat32, vector_shape(3), {1, 2, 3}),
      part(Dtype::kFloat32, vector_shape(3), {8, -4, 0});
  add_weighted(exec, total, part, 0.25);
  CHECK(total.values() == std::vector<double>{3, 1, 3});
}

TEST_CASE("cross_entropy: wrong labels, shapes and dtypes are named") {
  Exec exec(kTestDevice, 1);
  const Buffer z(Dtype::kFloat32, matrix_shape(2, 3), std::vector<double>(6)),
      loss(Dtype::kFloat32, vector_shape(2));
  const auto with_labels = [&](const std::vector<double>& values, const Buffer& logits) {
    const Buffer labels(Dtype::kInt32, vector_shape(static_cast<int64_t>(values.size())), values);
    cross_entropy(exec, loss, View{}, View{}, logits, labels, 1);
  };
  if (kTestDevice.kind == DeviceKind::kCpu) {
    CHECK_THROWS_WITH(with_labels({0, 3}, z), Catch::Contains("sample 1 has label 3"));
    CHECK_THROWS_WITH(with_labels({-1, 0}, z), Catch::Contains("sample 0 has label -1"));
  } else {
    with_labels({0, 3}, z);
    CHECK(std::isfinite(loss.values()[0]));
    CHECK(std::isnan(loss.values()[1]));
    with_labels({-1, 0}, z);
    CHECK(std::isnan(loss.values()[0]));
  }
  CHECK_THROWS_AS(with_labels({0, 1, 2}, z), Error);
  const Buffer narrow(Dtype::kBFloat16, matrix_shape(2, 3), std::vector<double>(6));
  CHECK_THROWS_WITH(with_labels({0, 1}, narrow), Catch::Contains("bfloat16"));
}

}  // namespace ringfort
