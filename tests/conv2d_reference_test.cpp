// The convolution that all others are tested against, itself tested: adjointness, central
// differences, accumulation in the scalar.
#include "kernels/conv2d_reference.h"

#include <catch2/catch.hpp>

#include "tests/conv_cases.h"

namespace ringfort {
namespace {

double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

TEST_CASE("conv2d reference: the three products are adjoint in float64", "[conv2d]") {
  Exec exec({}, 2);
  for (const ConvCase& c : kCases) {
    INFO(name_of(c));
    const Array x(c.x(), Dtype::kFloat64, layouts_for(c.inputs).back(),
                  some_values(c.x().count(), 1));
    const Array w(c.filter(), Dtype::kFloat64, Layout::kChannelsLast,
                  some_values(c.filter().count(), 2));
    const Array dy(c.y(), Dtype::kFloat64, layouts_for(c.outputs).back(),
                   some_values(c.y().count(), 3));
    const Array y(c.y(), Dtype::kFloat64), dx(c.x(), Dtype::kFloat64),
        dw(c.filter(), Dtype::kFloat64);
    conv2d_forward(exec, y, x, {w}, c.options());
    conv2d_dgrad(exec, dx, dy, {w}, c.options());
    conv2d_wgrad(exec, dw, x, dy, c.options(), 0);
    const double product = dot(dy.values(), y.values());
    // 2^-53 for each of at most 2^14 terms, against sums that are not small by accident.
    const double allowed = 0x1p-39 * (1 + dot(absolute(dy.values()), absolute(y.values())));
    CHECK(std::abs(dot(dx.values(), x.values()) - product) <= allowed);
    CHECK(std::abs(dot(dw.values(), w.values()) - product) <= allowed);
  }
}

TEST_CASE("conv2d reference: gradients agree with central differences", "[conv2d]") {
  Exec exec({}, 2);
  const ConvCase c{2, 5, 4, 3, 2, 3, 2, 1};
  const Values x = some_values(c.x().count(), 1), w = some_values(c.filter().count(), 2);
  const Values dy = some_values(c.y().count(), 3);
  const auto loss = [&](const Values& xs, const Values& ws) {  // dy . (x * w)
    const Array y(c.y(), Dtype::kFloat64);
    conv2d_forward(exec, y, Array(c.x(), Dtype::kFloat64, Layout::kChannelsLast, xs),
                   {Array(c.filter(), Dtype::kFloat64, Layout::kChannelsLast, ws)}, c.options());
    return dot(dy, y.values());
  };
  const Array dy_array(c.y(), Dtype::kFloat64, Layout::kChannelsLast, dy);
  const Array x_array(c.x(), Dtype::kFloat64, Layout::kChannelsLast, x);
  const Array w_array(c.filter(), Dtype::kFloat64, Layout::kChannelsLast, w);
  const Array dx(c.x(), Dtype::kFloat64), dw(c.filter(), Dtype::kFloat64);
  conv2d_dgrad(exec, dx, dy_array, {w_array}, c.options());
  conv2d_wgrad(exec, dw, x_array, dy_array, c.options(), 0);
  constexpr double kStep =
      1e-3;  // the loss is linear in x and in w: the step adds no error of its own
  for (size_t i = 0; i < x.size(); ++i) {
    Values up = x, down = x;
    up[i] += kStep, down[i] -= kStep;
    CHECK((loss(up, w) - loss(down, w)) / (2 * kStep) ==
          Approx(dx.values()[i]).epsilon(1e-9).margin(1e-10));
  }
  for (size_t i = 0; i < w.size(); ++i) {
    Values up = w, down = w;
    up[i] += kStep, down[i] -= kStep;
    CHECK((loss(x, up) - loss(x, down)) / (2 * kStep) ==
          Approx(dw.values()[i]).epsilon(1e-9).margin(1e-10));
  }
}

TEST_CASE("conv2d: padding is zeros around the input, on each side as many as asked for",
          "[conv2d]") {
  Exec exec({}, 1);
  for (const auto& [pad, end] : {std::pair{0, 1}, {1, 0}, {2, 1}, {1, -1}}) {
    INFO("pad " << pad << ", end " << end);
    const ConvCase c{2, 6, 5, 3, 4, 3, 2, pad, end};
    const int after = c.options().end();
    ConvCase bare{2, c.height + pad + after, c.width + pad + after, 3, 4, 3, 2, 0};
    const Values x = some_values(c.x().count(), 1), w = some_values(c.filter().count(), 2);
    Values around(static_cast<size_t>(bare.x().count()));
    for (int64_t n = 0; n < c.samples; ++n)
      for (int64_t h = 0; h < c.height; ++h)
        for (int64_t i = 0; i < c.width * 3; ++i)
          around[static_cast<size_t>(((n * bare.height + h + pad) * bare.width + pad) * 3 + i)] =
              x[static_cast<size_t>((n * c.height + h) * c.width * 3 + i)];
    const Array filter(c.filter(), Dtype::kFloat64, Layout::kChannelsLast, w);
    const Array y(c.y(), Dtype::kFloat64), expected(bare.y(), Dtype::kFloat64);
    conv2d_forward(exec, y, Array(c.x(), Dtype::kFloat64, Layout::kChannelsLast, x), {filter},
                   c.options());
    conv2d_forward(exec, expected, Array(bare.x(), Dtype::kFloat64, Layout::kChannelsLast, around),
                   {filter}, bare.options());
    CHECK(c.y() == bare.y());
    CHECK(y.values() == expected.values());
  }
}

TEST_CASE("conv2d reference: in float32 it accumulates in float32", "[conv2d]") {
  Exec exec({}, 1);
  const ConvCase c{1, 6, 6, 16, 4, 3, 1, 1};
  const Values x = rounded(some_values(c.x().count(), 1), Dtype::kFloat32);
  const Values w = rounded(some_values(c.filter().count(), 2), Dtype::kFloat32);
  const auto run = [&]<class S>(S, Dtype dtype, const Values& xs, const Values& ws) {
    const Array y(c.y(), dtype);
    conv2d_forward_reference<S>(exec, y, Array(c.x(), dtype, Layout::kBlocked16, xs),
                                Array(c.filter(), dtype, Layout::kChannelsLast, ws), c.options(),
                                {});
    return y.values();
  };
  const Values single = run(0.0f, Dtype::kFloat32, x, w), exact = run(0.0, Dtype::kFloat64, x, w);
  const Values magnitude = run(0.0, Dtype::kFloat64, absolute(x), absolute(w));
  CHECK(single != exact);
  CHECK(worst_ratio(single, exact, magnitude, c.filter().per_sample(), Dtype::kFloat32) <= 1);
}

}  // namespace ringfort
