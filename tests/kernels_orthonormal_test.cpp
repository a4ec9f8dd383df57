// Orthonormal columns: closed forms, dependent columns, several matrices side by side.
#include "kernels/orthonormal.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::DeviceVector;

double inner(const DeviceVector<float>& p, const MatrixAt& m, int64_t a, int64_t b) {
  double sum = 0;
  for (int64_t i = 0; i < m.rows; ++i)
    sum += static_cast<double>(p[static_cast<size_t>(m.first + i * m.columns + a)]) *
           static_cast<double>(p[static_cast<size_t>(m.first + i * m.columns + b)]);
  return sum;
}

}  // namespace

TEST_CASE("orthonormal: columns are orthogonal and of length one for any matrix") {
  DeviceVector<MatrixAt> matrices;
  int64_t length = 3;
  for (const auto& [rows, columns] :
       std::vector<std::pair<int64_t, int64_t>>{{4, 1}, {5, 5}, {300, 4}, {1000, 2}}) {
    matrices.push_back({length, rows, columns});
    length += rows * columns + 2;
  }
  DeviceVector<float> values;
  for (const double v : testing::random_vector(length, 3)) values.push_back(static_cast<float>(v));
  const DeviceVector<float> before = values;
  Exec exec(kTestDevice, 2);
  orthonormalise(exec, matrices.data(), std::ssize(matrices), 2000, values.data());
  testing::settle();
  for (const MatrixAt& m : matrices) {
    for (int64_t a = 0; a < m.columns; ++a)
      for (int64_t b = 0; b < m.columns; ++b)
        CHECK(inner(values, m, a, b) == Approx(a == b ? 1 : 0).margin(1e-5));
    // The first keeps its direction.
    const double norm = std::sqrt(inner(before, m, 0, 0));
    CHECK(values[static_cast<size_t>(m.first)] ==
          Approx(before[static_cast<size_t>(m.first)] / norm).epsilon(1e-5));
    const auto behind = static_cast<size_t>(m.first + m.rows * m.columns);
    CHECK(values[behind] == before[behind]);
  }
}

TEST_CASE("orthonormal: columns that depend on others become zeros") {
  const MatrixAt m{0, 50, 3};
  DeviceVector<MatrixAt> matrices = {m};
  DeviceVector<float> values(150);
  const auto u = testing::random_vector(50, 1);
  for (size_t i = 0; i < 50; ++i) {
    values[3 * i] = static_cast<float>(u[i]);
    values[3 * i + 1] = static_cast<float>(-3 * u[i]);
  }
  Exec exec(kTestDevice, 1);
  orthonormalise(exec, matrices.data(), 1, 150, values.data());
  testing::settle();
  CHECK(inner(values, m, 0, 0) == Approx(1));
  CHECK(inner(values, m, 1, 1) == 0);
  CHECK(inner(values, m, 2, 2) == 0);
}

}  // namespace ringfort
