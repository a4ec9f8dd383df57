// The ledger of training on the device: sums over batches, steps that count and steps that do not.
#include "kernels/step_totals.h"

#include <catch2/catch.hpp>

#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;

}  // namespace

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

TEST_CASE("a step adds to the totals, a skipped one only to their number") {
  Exec exec(kTestDevice, 1);
  const Buffer totals(Dtype::kFloat64, vector_shape(StepSums::kCount), {1, 2, 3, 0, 0, 0});
  Buffer sums(Dtype::kFloat64, vector_shape(2)), check(Dtype::kFloat64, vector_shape(2));
  const auto step = [&](bool finite) {
    check.set({0.5, finite ? 1.0 : 0.0});
    sums.set({10, 4});
    add_step(exec, totals, sums, check, 8);
    return totals.values();
  };
  using Sums = std::vector<double>;
  CHECK((step(true) == Sums{11, 6, 11, 1, 0, 0}));
  CHECK((step(false) == Sums{11, 6, 11, 2, 1, 2}));
  CHECK((step(false) == Sums{11, 6, 11, 3, 2, 2}));
  CHECK((step(true) == Sums{21, 10, 19, 4, 2, 2}));
}

TEST_CASE("what a skipped step has moved is put back, what another has moved stays") {
  Exec exec(kTestDevice, 2);
  const std::vector<double> moved = testing::rounded_to(Dtype::kFloat32, random_vector(1023, 1)),
                            kept = testing::rounded_to(Dtype::kFloat32, random_vector(1023, 2));
  const Buffer values(Dtype::kFloat32, vector_shape(1023), moved),
      before(Dtype::kFloat32, vector_shape(1023), kept);
  Buffer check(Dtype::kFloat64, vector_shape(2));
  check.set({1, 1});
  keep_unless_finite(exec, values, before, check);
  CHECK((values.values() == moved));
  check.set({1, 0});
  keep_unless_finite(exec, values, before, check);
  CHECK((values.values() == kept));
}

}  // namespace ringfort
