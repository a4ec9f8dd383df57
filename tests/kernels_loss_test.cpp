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

}  // namespace

TEST_CASE("CrossEntropyRow: dlogits is the derivative of the loss") {
  for (const int64_t classes : {1, 2, 10, 33}) {
    const std::vector<double> z = random_vector(classes, 1, -4, 4);
    const int32_t label = static_cast<int32_t>(classes / 2);
    double loss = 0;
    std::vector<double> dz(z.size());
    CrossEntropyRow<double>{z.data(), &label, classes, 0.5, &loss, dz.data(), nullptr}(CpuRow{}, 0);
    for (size_t j = 0; j < z.size(); ++j) {
      std::vector<Dual> duals;
      for (size_t k = 0; k < z.size(); ++k) duals.emplace_back(z[k], k == j ? 1 : 0);
      Dual dual_loss;
      CrossEntropyRow<Dual>{duals.data(), &label, classes, Dual(1), &dual_loss, nullptr, nullptr}(
          CpuRow{}, 0);
      CHECK(dual_loss.value == loss);
      CHECK(std::abs(dz[j] - 0.5 * dual_loss.slope) < 1e-15);
    }
  }
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

TEST_CASE("batch totals: losses and hits of all batches so far, the same for any threads") {
  for (const int64_t rows : {1, 33, 1000}) {
    const auto losses = random_vector(rows, 5, 0, 4);
    const auto predicted = testing::random_integers(rows, 6, 0, 3),
               labels = testing::random_integers(rows, 7, 0, 3);
    const Buffer loss(Dtype::kFloat32, vector_shape(rows), losses);
    const Buffer prediction(Dtype::kInt32, vector_shape(rows), predicted);
    const Buffer label(Dtype::kInt32, vector_shape(rows), labels);
    double sum = 1000, hits = 7;  // what earlier batches gave
    for (int batch = 0; batch < 2; ++batch)
      for (size_t i = 0; i < labels.size(); ++i) {
        sum += static_cast<double>(static_cast<float>(losses[i]));
        hits += predicted[i] == labels[i];
      }
    std::vector<double> first;
    for (const int threads : testing::thread_counts()) {
      Exec exec(kTestDevice, threads);
      const Buffer totals(Dtype::kFloat64, vector_shape(2), {1000, 7});
      View loss_sum = totals, hit_count = totals;
      loss_sum.shape = hit_count.shape = vector_shape(1);
      hit_count.data = loss_sum.as<double>() + 1;
      for (int batch = 0; batch < 2; ++batch)
        add_batch_totals(exec, loss_sum, hit_count, loss, prediction, label);
      CHECK(totals.values()[0] == Approx(sum).epsilon(1e-6));
      CHECK(totals.values()[1] == hits);
      if (first.empty()) first = totals.values();
      CHECK(totals.values() == first);
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
