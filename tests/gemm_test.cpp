// Matrix products against the float64 reference, and the reference against a product done by hand.
#include "kernels/gemm.h"

#include <catch2/catch.hpp>

#include "kernels/gemm_reference.h"
#include "tests/arrays.h"

namespace ringfort {
namespace {

struct GemmCase {
  int64_t rows, inner, columns;
  bool transpose_a, transpose_b;
  float beta;
  bool bias, relu;
};

void check_gemm(Exec& exec, const GemmCase& g, Dtype dtype, Dtype result) {
  INFO(fmt::format("{} x {} x {} transposed {} {} beta {} bias {} relu {} {} to {}", g.rows,
                   g.inner, g.columns, g.transpose_a, g.transpose_b, g.beta, g.bias, g.relu,
                   to_string(dtype), to_string(result)));
  const Shape a_shape =
      g.transpose_a ? matrix_shape(g.inner, g.rows) : matrix_shape(g.rows, g.inner);
  const Shape b_shape =
      g.transpose_b ? matrix_shape(g.columns, g.inner) : matrix_shape(g.inner, g.columns);
  const Shape c_shape = matrix_shape(g.rows, g.columns);
  const Values a = rounded(some_values(a_shape.count(), 1), dtype),
               b = rounded(some_values(b_shape.count(), 2), dtype);
  const Values before = rounded(some_values(c_shape.count(), 3), result);
  const Values bias = rounded(some_values(g.columns, 4), Dtype::kFloat32);
  const auto product = [&](auto run, Dtype in, Dtype out, Dtype bias_dtype, bool magnitude) {
    const auto values = [&](const Values& signed_values) {
      return magnitude ? absolute(signed_values) : signed_values;
    };
    const Layout layout = Layout::kChannelsLast;
    const Array c(c_shape, out, layout, values(before)),
        bias_array(vector_shape(g.columns), bias_dtype, layout, values(bias));
    const View bias_view = bias_array;
    run(exec, c, Array(a_shape, in, layout, values(a)), Array(b_shape, in, layout, values(b)),
        GemmOptions{g.transpose_a, g.transpose_b, g.beta, g.bias ? &bias_view : nullptr,
                    g.relu && !magnitude});
    return c.values();
  };
  const Dtype f64 = Dtype::kFloat64;
  const Values exact = product(gemm_reference<double>, f64, f64, f64, false);
  const Values magnitude = product(gemm_reference<double>, f64, f64, f64, true);
  CHECK(worst_ratio(product(gemm, dtype, result, Dtype::kFloat32, false), exact, magnitude, g.inner,
                    result) <= 1);
  CHECK(product(gemm, f64, f64, f64, false) == exact);
  if (dtype == Dtype::kFloat32)
    CHECK(worst_ratio(product(gemm_reference<float>, dtype, result, dtype, false), exact, magnitude,
                      g.inner, result) <= 1);
}

}  // namespace

TEST_CASE("gemm agrees with the float64 reference", "[gemm]") {
  Exec exec({}, 2);  // one for all: its primitives must not be mixed up
  const int64_t sizes[][3] = {{1, 1, 1},     {5, 7, 3},     {64, 512, 10},
                              {33, 16, 100}, {128, 31, 64}, {1, 200, 17}};
  for (const auto& [rows, inner, columns] : sizes)
    for (const int transposes : {0, 1, 2, 3})
      for (const auto& [beta, bias, relu] : {std::tuple(0.0f, false, false),
                                             {0.0f, true, true},
                                             {1.0f, false, false},
                                             {1.0f, true, true}}) {
        const GemmCase g{rows, inner, columns, (transposes & 1) != 0, (transposes & 2) != 0,
                         beta, bias,  relu};
        check_gemm(exec, g, Dtype::kFloat32, Dtype::kFloat32);
        check_gemm(exec, g, Dtype::kBFloat16, Dtype::kBFloat16);
        check_gemm(exec, g, Dtype::kBFloat16, Dtype::kFloat32);
      }
}

TEST_CASE("gemm by hand", "[gemm]") {
  Exec exec({}, 1);
  const Dtype f64 = Dtype::kFloat64;
  const Layout layout = Layout::kChannelsLast;
  const Array a(matrix_shape(2, 3), f64, layout, {1, 2, 3, 4, 5, 6});
  const Array b(matrix_shape(3, 2), f64, layout, {1, 0, 0, 1, -1, -1});
  const Array bias(vector_shape(2), f64, layout, {10, -10}),
      c(matrix_shape(2, 2), f64, layout, {1, 1, 1, 1});
  gemm(exec, c, a, b);
  CHECK(c.values() == Values{-2, -1, -2, -1});
  gemm(exec, c, a, b, {.beta = 1, .bias = &bias.view()});
  CHECK(c.values() == Values{6, -12, 6, -12});
  gemm(exec, c, a, b, {.bias = &bias.view(), .relu = true});
  CHECK(c.values() == Values{8, 0, 8, 0});
  const Array d(matrix_shape(3, 3), f64);
  gemm(exec, d, a, a, {.transpose_a = true});
  CHECK(d.values() == Values{17, 22, 27, 22, 29, 36, 27, 36, 45});
}

TEST_CASE("gemm: what does not fit is refused with a sentence", "[gemm]") {
  using Catch::Contains;
  Exec exec({}, 1);
  const Array a(matrix_shape(2, 3), Dtype::kFloat32), b(matrix_shape(3, 4), Dtype::kFloat32),
      c(matrix_shape(2, 4), Dtype::kFloat32);
  const Array bias(vector_shape(3), Dtype::kFloat32), c16(matrix_shape(2, 4), Dtype::kBFloat16);
  CHECK_THROWS_WITH(gemm(exec, c, a, b, {.transpose_b = true}), Contains("inner sizes differ"));
  CHECK_THROWS_WITH(gemm(exec, a, a, b), Contains("op(A) op(B) is 2 x 4, C is 2 x 3"));
  CHECK_THROWS_WITH(gemm(exec, c, a, b, {.beta = 2}), Contains("beta is 2"));
  CHECK_THROWS_WITH(gemm(exec, c, a, b, {.bias = &bias.view()}),
                    Contains("3 biases for 4 columns"));
  CHECK_THROWS_WITH(gemm(exec, c16, a, b),
                    Contains("no implementation for float32 times float32 into bfloat16"));
  CHECK_THROWS_WITH(gemm(exec, c, Array({2, 1, 3, 1}, Dtype::kFloat32), b),
                    Contains("must be a matrix"));
}

}  // namespace ringfort
