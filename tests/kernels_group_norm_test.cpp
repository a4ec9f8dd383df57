// Group norm against its definition in plain loops, both layouts and every dtype; a mean that is
// large beside the deviation; what is refused.
#include "kernels/group_norm.h"

#include <catch2/catch.hpp>

#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;
using testing::relative_error;
using Doubles = std::vector<double>;

// y, for channels last.
Doubles plain(const Shape& s, const Doubles& x, int64_t groups, const Doubles& gamma,
              const Doubles& beta, double epsilon) {
  Doubles y(x.size());
  const int64_t channels = s.c / groups, count = channels * s.h * s.w;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t g = 0; g < groups; ++g) {
      const auto each = [&](const auto& body) {
        for (int64_t pixel = 0; pixel < s.h * s.w; ++pixel)
          for (int64_t c = g * channels; c < (g + 1) * channels; ++c)
            body(static_cast<size_t>((n * s.h * s.w + pixel) * s.c + c), static_cast<size_t>(c));
      };
      double mean = 0, variance = 0;
      each([&](size_t at, size_t) { mean += x[at] / static_cast<double>(count); });
      each([&](size_t at, size_t) {
        variance += (x[at] - mean) * (x[at] - mean) / static_cast<double>(count);
      });
      each([&](size_t at, size_t c) {
        y[at] = gamma[c] * (x[at] - mean) / std::sqrt(variance + epsilon) + beta[c];
      });
    }
  return y;
}

void check_forward(const Shape& shape, int64_t groups, Dtype dtype, Layout layout, double mean,
                   double tolerance) {
  INFO(to_string(shape) << " in " << groups << ", " << to_string(dtype));
  Exec exec(kTestDevice, 2);
  const Dtype wide = dtype == Dtype::kFloat64 ? dtype : Dtype::kFloat32;
  const auto channels = [&](uint64_t seed) {
    return Buffer(wide, vector_shape(shape.c), random_vector(shape.c, seed));
  };
  const Buffer x(dtype, shape, random_vector(shape.count(), 1, mean - 1, mean + 1), layout),
      gamma = channels(2), beta = channels(3), y(dtype, shape, layout),
      statistics(wide, matrix_shape(shape.n, 2 * groups));
  group_norm_statistics(exec, statistics, x, 1e-3);
  group_norm_apply(exec, y, x, statistics, gamma, beta);
  const Doubles exact = plain(shape, x.values(), groups, gamma.values(), beta.values(), 1e-3);
  CHECK(relative_error(y.values(), exact) < tolerance);
}

}  // namespace

TEST_CASE("group norm: by its definition, in every dtype and layout") {
  for (const auto& [channels, groups] : {std::pair{6, 3}, {5, 1}, {32, 4}, {48, 2}, {16, 16}})
    for (const Layout layout : {Layout::kChannelsLast, Layout::kBlocked16}) {
      if (layout == Layout::kBlocked16 && channels % 16 != 0) continue;
      const Shape shape{3, 4, 5, channels};
      check_forward(shape, groups, Dtype::kFloat64, layout, 0, 1e-13);
      check_forward(shape, groups, Dtype::kFloat32, layout, 0, 4 * 0x1p-24);
      check_forward(shape, groups, Dtype::kBFloat16, layout, 0, 0x1p-8);
      // A variance from x^2 - mean^2 would be off by 1e-4 here.
      check_forward(shape, groups, Dtype::kFloat64, layout, 1e6, 1e-8);
    }
}

TEST_CASE("group norm: groups that do not divide the channels are refused") {
  Exec exec(kTestDevice, 1);
  const Buffer x(Dtype::kFloat32, {2, 3, 3, 8}), other(Dtype::kFloat32, {2, 3, 3, 4}),
      three(Dtype::kFloat32, matrix_shape(2, 6)), foreign(Dtype::kFloat32, matrix_shape(3, 4)),
      two(Dtype::kFloat32, matrix_shape(2, 4)), channels(Dtype::kFloat32, vector_shape(8));
  CHECK_THROWS_WITH(group_norm_statistics(exec, three, x, 1e-5),
                    "group_norm: 3 groups do not divide 8 channels");
  CHECK_THROWS_WITH(group_norm_statistics(exec, foreign, x, 1e-5),
                    Catch::Contains("do not belong to (2, 3, 3, 8)"));
  CHECK_THROWS_WITH(group_norm_apply(exec, other, x, two, channels, channels),
                    Catch::Contains("one shape and layout"));
}

}  // namespace ringfort
