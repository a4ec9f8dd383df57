// Activations, scale and shift, sums of branches: functors against dual numbers, launches against
// plain loops, and the moves between dtypes and layouts.
#include "kernels/activation.h"

#include <catch2/catch.hpp>
#include <cfloat>

#include "tests/dual.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;
using testing::relative_error;

constexpr Layout kLayouts[] = {Layout::kChannelsLast, Layout::kBlocked16};

}  // namespace

TEST_CASE("ScaleShiftRelu's derivative is MaskScaleBackward's") {
  const std::vector<double> x = random_vector(200, 1, -2, 2), scale = random_vector(200, 2, -2, 2),
                            shift = random_vector(200, 3), dy = random_vector(200, 4),
                            before = random_vector(200, 5);
  for (size_t i = 0; i < x.size(); ++i) {
    const auto y = ScaleShiftRelu{}(variable(x[i]), Dual(scale[i]), Dual(shift[i]));
    const double mask = ScaleShiftRelu{}(x[i], scale[i], shift[i]).value[1];
    CHECK(y.value[0].value == std::max(0.0, x[i] * scale[i] + shift[i]));
    CHECK(mask == static_cast<double>(y.value[0].value > 0));
    const double dx = MaskScaleBackward{}(dy[i], mask, scale[i]);
    const double added = MaskScaleBackward{}(dy[i], mask, before[i], scale[i]);
    CHECK(relative_error(dx, dy[i] * y.value[0].slope) < 1e-14);
    CHECK(relative_error(added, before[i] + dy[i] * y.value[0].slope) < 1e-14);
  }
}

TEST_CASE("Relu's and ScaleShift's derivatives are MaskBackward's and ScaleBackward's") {
  const std::vector<double> x = random_vector(100, 1), scale = random_vector(100, 2),
                            dy = random_vector(100, 3), before = random_vector(100, 4);
  for (size_t i = 0; i < x.size(); ++i) {
    const auto y = Relu{}(variable(x[i]));
    const double mask = Relu{}(x[i]).value[1];
    CHECK(y.value[0].value == std::max(0.0, x[i]));
    CHECK(IsPositive{}(x[i]) == mask);
    CHECK(MaskBackward{}(dy[i], mask) == dy[i] * y.value[0].slope);
    CHECK(MaskBackward{}(dy[i], mask, before[i]) == before[i] + dy[i] * y.value[0].slope);

    const Dual z = ScaleShift{}(variable(x[i]), Dual(scale[i]), Dual(0.5));
    CHECK(relative_error(ScaleBackward{}(dy[i], scale[i]), dy[i] * z.slope) < 1e-15);
    CHECK(relative_error(ScaleBackward{}(dy[i], before[i], scale[i]), before[i] + dy[i] * z.slope) <
          1e-14);
  }
}

namespace {

// fn's derivative at x is what backward makes of dy, with and without what dx already holds. kept:
// what backward takes beside dy.
template <class Fn, class Backward, class Kept>
void check_derivative(const Fn& fn, const Backward& backward, double x, const Kept& kept) {
  INFO("at " << x);
  const double dy = 0.75, before = -0.5, slope = fn(variable(x)).slope;
  CHECK(relative_error(backward(dy, kept(x)), dy * slope) < 1e-14);
  CHECK(std::abs(backward(dy, kept(x), before) - (before + dy * slope)) < 1e-14);
}

}  // namespace

TEST_CASE("Smooth and leaky activations: values, derivatives and extremes") {
  const auto itself = [](double x) { return x; };
  std::vector<double> points = random_vector(100, 1, -6, 6);
  points.insert(points.end(), {0.0, 30.0, -30.0, 700.0, -700.0});
  for (const double x : points) {
    CHECK(relative_error(sigmoid(x), 1 / (1 + std::exp(-x))) < 1e-15);
    CHECK(relative_error(Silu{}(x), x / (1 + std::exp(-x))) < 1e-15);
    check_derivative(Silu{}, SiluBackward{}, x, itself);
    for (const double beta : {0.5, 1.0, 4.0}) {
      const double expected = std::max(x, 0.0) + std::log1p(std::exp(-std::abs(beta * x))) / beta;
      CHECK(std::abs(Softplus{beta}(x)-expected) <= 1e-15 * (1 + expected));
      check_derivative(Softplus{beta}, SoftplusBackward{beta}, x, itself);
    }
    const LeakyRelu leaky{0.1};
    CHECK(leaky(x).value[0] == (x > 0 ? x : 0.1 * x));
    check_derivative([&](Dual z) { return leaky(z).value[0]; }, LeakyReluBackward{0.1}, x,
                     [&](double z) { return leaky(z).value[1]; });
  }
  // float32 by polynomials: nothing overflows, and both tails are right.
  for (const float x : {-1e30f, -100.0f, -20.0f, -1.0f, 0.0f, 1.0f, 20.0f, 100.0f, 1e30f}) {
    INFO("at " << x);
    const auto exact = static_cast<double>(x);
    CHECK(std::abs(static_cast<double>(sigmoid(x)) - sigmoid(exact)) < 2e-7);
    CHECK(std::abs(static_cast<double>(Silu{}(x)) - Silu{}(exact)) <=
          4e-7 * (std::abs(exact) < 1e3 ? 1 + std::abs(Silu{}(exact)) : std::abs(exact)));
    CHECK(std::abs(static_cast<double>(Softplus{1}(x)) - Softplus{1}(exact)) <=
          4e-7 * (1 + Softplus{1}(exact)));
  }
  CHECK(std::isnan(sigmoid(NAN)));
}

namespace {

void check_smooth_launches(Dtype dtype, Layout layout, double tolerance) {
  const Shape shape{3, 5, 7, 48};
  Exec exec(kTestDevice, 2);
  const auto buffer = [&](uint64_t seed, double reach) {
    return Buffer(dtype, shape, random_vector(shape.count(), seed, -reach, reach), layout);
  };
  const Buffer x = buffer(1, 4), dy = buffer(2, 1), held = buffer(3, 1), y(dtype, shape, layout),
               mask(Dtype::kBit, shape, layout);
  Buffer dx(dtype, shape, layout);
  const std::vector<double> xv = x.values(), dyv = dy.values(), before = held.values();
  // forward(): fills y. backward(beta): fills dx. value, slope: of x.
  const auto check = [&](const char* name, const auto& forward, const auto& backward,
                         const auto& value, const auto& slope) {
    INFO(name << " " << to_string(dtype));
    std::vector<double> ys(xv.size()), dxs(xv.size());
    for (const float beta : {0.0f, 1.0f}) {
      for (size_t i = 0; i < xv.size(); ++i) {
        ys[i] = value(xv[i]);
        dxs[i] = dyv[i] * slope(xv[i]) + (beta == 0 ? 0 : before[i]);
      }
      dx.set(beta == 0 ? std::vector<double>(xv.size(), NAN) : before);
      forward();
      backward(beta);
      CHECK(relative_error(y.values(), ys) < tolerance);
      CHECK(relative_error(dx.values(), dxs) < tolerance);
    }
  };
  const auto logistic = [](double z) { return 1 / (1 + std::exp(-z)); };
  check(
      "silu", [&] { silu(exec, y, x); }, [&](float b) { silu_backward(exec, dx, dy, x, b); },
      [&](double z) { return z * logistic(z); },
      [&](double z) { return logistic(z) + z * logistic(z) * logistic(-z); });
  check(
      "softplus", [&] { softplus(exec, y, x, 2); },
      [&](float b) { softplus_backward(exec, dx, dy, x, 2, b); },
      [&](double z) { return std::log(1 + std::exp(2 * z)) / 2; },
      [&](double z) { return logistic(2 * z); });
  check(
      "leaky_relu", [&] { leaky_relu(exec, y, mask, x, 0.25); },
      [&](float b) { leaky_relu_backward(exec, dx, dy, mask, 0.25, b); },
      [&](double z) { return z > 0 ? z : z / 4; }, [&](double z) { return z > 0 ? 1 : 0.25; });
}

}  // namespace

TEST_CASE("smooth and leaky launches: both layouts, float32 and bfloat16") {
  for (const Layout layout : kLayouts) {
    check_smooth_launches(Dtype::kFloat32, layout, 8 * FLT_EPSILON);
    check_smooth_launches(Dtype::kBFloat16, layout, 1.0 / 256);
  }
}

TEST_CASE("relu at exactly 0 is off, in the value and in the mask") {
  CHECK(Relu{}(0.0).value[1] == 0);
  CHECK(Relu{}(-0.0).value[1] == 0);
  CHECK(ScaleShiftRelu{}(1.0, 2.0, -2.0).value[1] == 0);
  CHECK(IsPositive{}(0.0) == 0);
}

namespace {

// The launches, in float32 or bfloat16, against the same sums in double.
void check_launches(Dtype dtype, Layout layout, double tolerance) {
  const Shape shape{3, 5, 7, 48};
  const int64_t count = shape.count();
  Exec exec(kTestDevice, 2);
  const auto buffer = [&](uint64_t seed) {
    return Buffer(dtype, shape, random_vector(count, seed), layout);
  };
  const Buffer x = buffer(1), dy = buffer(2), dx = buffer(3), y(dtype, shape, layout);
  const Buffer mask(Dtype::kBit, shape, layout), again(Dtype::kBit, shape, layout);
  const Buffer scale(Dtype::kFloat32, vector_shape(48), random_vector(48, 4));
  const Buffer shift(Dtype::kFloat32, vector_shape(48), random_vector(48, 5));
  const std::vector<double> xv = x.values(), dyv = dy.values(), before = dx.values();
  const std::vector<double> a = scale.values(), b = shift.values();
  std::vector<double> linear(xv.size()), rectified(xv.size()), summed(xv.size()),
      dx_relu(xv.size()), dx_scale(xv.size());
  for (size_t i = 0; i < xv.size(); ++i) {
    const size_t c = i % 48;
    linear[i] = xv[i] * a[c] + b[c];
    rectified[i] = std::max(0.0, linear[i]);
    dx_relu[i] = before[i] + (linear[i] > 0 ? dyv[i] * a[c] : 0);
    dx_scale[i] = dx_relu[i] + dyv[i] * a[c];
  }
  scale_shift(exec, y, x, scale, shift);
  CHECK(relative_error(y.values(), linear) < tolerance);
  scale_shift_relu(exec, y, mask, x, scale, shift);
  CHECK(relative_error(y.values(), rectified) < tolerance);
  relu_mask(exec, again, y);
  CHECK((again.values() == mask.values()));
  for (size_t i = 0; i < xv.size(); ++i) summed[i] = std::max(0.0, linear[i] + dyv[i]);
  for (const View& kept : {View(again), View{}}) {
    scale_shift_add_relu(exec, y, kept, x, dy, scale, shift);
    CHECK(relative_error(y.values(), summed) < tolerance);
  }
  const std::vector<double> on = again.values(), ys = y.values();
  for (size_t i = 0; i < on.size(); ++i) REQUIRE((on[i] != 0) == (ys[i] > 0));
  gate_backward(exec, dx, dy, {mask, scale}, 1);
  CHECK(relative_error(dx.values(), dx_relu) < tolerance);
  gate_backward(exec, dx, dy, {{}, scale}, 1);
  CHECK(relative_error(dx.values(), dx_scale) < 2 * tolerance);
}

}  // namespace

TEST_CASE("activation launches: both layouts, float32 and bfloat16") {
  for (const Layout layout : kLayouts) {
    check_launches(Dtype::kFloat32, layout, 4 * FLT_EPSILON);
    check_launches(Dtype::kBFloat16, layout, 1.0 / 256);
  }
}

TEST_CASE("backward launches with beta 0 do not read dx") {
  Exec exec(kTestDevice, 1);
  const Shape shape{2, 3, 3, 5};
  const std::vector<double> ones(90, 1.0), nan(90, NAN);
  const Buffer dy(Dtype::kFloat32, shape, ones);
  Buffer dx(Dtype::kFloat32, shape, nan);
  const Buffer mask(Dtype::kBit, shape, ones);
  const Buffer scale(Dtype::kFloat32, vector_shape(5), std::vector<double>(5, 1.0));
  const auto check = [&] {
    CHECK((dx.values() == ones));
    dx.set(nan);
  };
  scale_backward(exec, dx, dy, scale, 0);
  check();
  gate_backward(exec, dx, dy, {mask, scale}, 0);
  check();
  gate_backward(exec, dx, dy, {mask, {}}, 0);
  check();
  accumulate(exec, dx, dy, 0);
  check();
}

TEST_CASE("relu, its backward and sums of branches, in place where allowed") {
  Exec exec(kTestDevice, 2);
  const Shape shape{2, 9, 5, 16};
  const std::vector<double> values = testing::random_integers(shape.count(), 1, -3, 3);
  for (const Layout layout : kLayouts) {
    const Buffer x(Dtype::kFloat32, shape, values, layout),
        dx(Dtype::kFloat32, shape, values, layout);
    const Buffer dy(Dtype::kFloat32, shape, testing::random_integers(shape.count(), 2, -9, 9),
                    layout);
    const Buffer mask(Dtype::kBit, shape, layout), sum(Dtype::kFloat32, shape, layout);
    add(exec, sum, x, dy);
    relu(exec, x, mask, x);
    gate_backward(exec, dx, dy, {mask, {}}, 1);
    accumulate(exec, sum, dy, 1);
    const std::vector<double> xv = x.values(), dyv = dy.values(), dxv = dx.values(),
                              total = sum.values();
    int64_t wrong = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      wrong += xv[i] != std::max(0.0, values[i]);
      wrong += dxv[i] != values[i] + (values[i] > 0 ? dyv[i] : 0);
      wrong += total[i] != values[i] + 2 * dyv[i];
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("reorder and convert keep every element") {
  Exec exec(kTestDevice, 2);
  const Shape shape{3, 5, 4, 48};
  const std::vector<double> values = testing::random_integers(shape.count(), 1, 0, 200);
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat64, Dtype::kUint8}) {
    const Buffer last(dtype, shape, values), blocked(dtype, shape, Layout::kBlocked16),
        back(dtype, shape), wide(Dtype::kFloat64, shape);
    reorder(exec, blocked, last);
    CHECK((blocked.values() == values));
    CHECK((blocked.bytes() != last.bytes()));
    reorder(exec, back, blocked);
    CHECK((back.bytes() == last.bytes()));
    convert(exec, wide, last);
    CHECK((wide.values() == values));
  }
  const Buffer bits(Dtype::kBit, shape), other(Dtype::kBit, shape, Layout::kBlocked16);
  CHECK_THROWS_AS(reorder(exec, other, bits), Error);
}

TEST_CASE("copy_channels: adds channels of zeros, leaves channels out, adds to what is there") {
  Exec exec(kTestDevice, 2);
  for (const auto& [from_channels, to_channels] : {std::pair{3, 8}, {8, 3}, {1, 8}, {5, 5}})
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat64}) {
      const Shape from_shape{2, 5, 3, from_channels}, to_shape{2, 5, 3, to_channels};
      const Buffer from(dtype, from_shape, testing::random_integers(from_shape.count(), 1, -9, 9));
      const std::vector<double> before = testing::random_integers(to_shape.count(), 2, -9, 9);
      for (const float beta : {0.0f, 1.0f}) {
        // What is overwritten may be anything.
        const Buffer to(dtype, to_shape,
                        beta == 0 ? std::vector<double>(before.size(), NAN) : before);
        copy_channels(exec, to, from, beta);
        const std::vector<double> fv = from.values(), tv = to.values();
        int64_t wrong = 0;
        for (int64_t i = 0; i < to_shape.count(); ++i) {
          const int64_t pixel = i / to_channels, c = i % to_channels;
          const auto at = static_cast<size_t>(i);
          const double expected = c >= from_channels
                                      ? 0
                                      : fv[static_cast<size_t>(pixel * from_channels + c)] +
                                            (beta == 0 ? 0 : before[at]);
          wrong += tv[at] != expected;
        }
        INFO(from_channels << " to " << to_channels << " channels, beta " << beta);
        CHECK(wrong == 0);
      }
    }
  const Buffer x(Dtype::kFloat32, {1, 2, 2, 3}), other(Dtype::kFloat32, {1, 2, 3, 3});
  CHECK_THROWS_WITH(copy_channels(exec, other, x, 0), Catch::Contains("not the same pixels"));
}

TEST_CASE("add_bias: per channel, with and without ReLU") {
  Exec exec(kTestDevice, 2);
  const Shape shape{7, 1, 1, 33};
  const std::vector<double> values = testing::random_integers(shape.count(), 1, -9, 9),
                            biases = testing::random_integers(33, 2, -9, 9);
  const Buffer bias(Dtype::kFloat32, vector_shape(33), biases);
  for (const bool rectify : {false, true}) {
    const Buffer y(Dtype::kBFloat16, shape, values);
    add_bias(exec, y, bias, rectify);
    const std::vector<double> yv = y.values();
    int64_t wrong = 0;
    for (size_t i = 0; i < yv.size(); ++i) {
      const double sum = values[i] + biases[i % 33];
      wrong += yv[i] != (rectify ? std::max(sum, 0.0) : sum);
    }
    CHECK(wrong == 0);
  }
}

}  // namespace ringfort
