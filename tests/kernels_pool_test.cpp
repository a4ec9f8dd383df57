// Pooling against plain loops, both layouts; backward as the adjoint of forward, overlapping
// windows and windows with gaps included; ties of the maximum.
#include "kernels/pool.h"

#include <catch2/catch.hpp>

#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;
using testing::relative_error;

struct Case {
  Shape x;
  PoolWindow window;
};

const Case kCases[] = {
    {{2, 6, 6, 3}, {2, 2}},     {{2, 7, 5, 16}, {3, 2}}, {{1, 5, 9, 16}, {3, 1}},
    {{3, 7, 8, 5}, {2, 3}},     {{2, 4, 4, 32}, {1, 1}}, {{2, 4, 5, 48}, {4, 4}},
    {{40, 14, 14, 16}, {2, 2}},
};
// Max pooling alone: the ImageNet stem's, also where the last window needs the padding, and a
// window that meets the image in a corner only.
const Case kPaddedCases[] = {{{2, 7, 8, 16}, {3, 2, 1}},
                             {{2, 6, 9, 20}, {3, 2, 1}},
                             {{1, 2, 3, 5}, {4, 3, 2}},
                             {{2, 1, 1, 3}, {3, 2, 1}}};
constexpr Layout kLayouts[] = {Layout::kChannelsLast, Layout::kBlocked16};

bool fits(const Case& c, Layout layout) {
  return layout == Layout::kChannelsLast || c.x.c % 16 == 0;
}

size_t offset(const Shape& s, int64_t n, int64_t h, int64_t w, int64_t c) {
  return static_cast<size_t>(((n * s.h + h) * s.w + w) * s.c + c);
}

// Calls body(offset in y, n, h, w, c) for every output.
template <class Body>
void each_output(const Shape& y, const Body& body) {
  for (int64_t n = 0; n < y.n; ++n)
    for (int64_t h = 0; h < y.h; ++h)
      for (int64_t w = 0; w < y.w; ++w)
        for (int64_t c = 0; c < y.c; ++c) body(offset(y, n, h, w, c), n, h, w, c);
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

std::vector<double> plain_average(const std::vector<double>& x, const Shape& xs, const Shape& ys,
                                  PoolWindow window) {
  std::vector<double> y(static_cast<size_t>(ys.count()));
  each_output(ys, [&](size_t to, int64_t n, int64_t h, int64_t w, int64_t c) {
    for (int i = 0; i < window.size; ++i)
      for (int j = 0; j < window.size; ++j)
        y[to] += x[offset(xs, n, h * window.stride + i, w * window.stride + j, c)];
    y[to] /= window.size * window.size;
  });
  return y;
}

// {y, where in x each y came from}: the first of equal values in reading order
std::pair<std::vector<double>, std::vector<size_t>> plain_max(const std::vector<double>& x,
                                                              const Shape& xs, const Shape& ys,
                                                              PoolWindow window) {
  std::vector<double> y(static_cast<size_t>(ys.count()), -INFINITY);
  std::vector<size_t> from(y.size());
  each_output(ys, [&](size_t to, int64_t n, int64_t h, int64_t w, int64_t c) {
    for (int i = 0; i < window.size; ++i)
      for (int j = 0; j < window.size; ++j) {
        const int64_t row = h * window.stride + i - window.pad,
                      column = w * window.stride + j - window.pad;
        if (row < 0 || row >= xs.h || column < 0 || column >= xs.w) continue;
        const size_t at = offset(xs, n, row, column, c);
        if (x[at] > y[to]) y[to] = x[at], from[to] = at;
      }
  });
  return {y, from};
}

}  // namespace

TEST_CASE("pool_shape: windows that would leave the image are not formed") {
  CHECK(pool_shape({2, 7, 5, 3}, {3, 2}) == Shape{2, 3, 2, 3});
  CHECK(pool_shape({2, 2, 2, 3}, {2, 2}) == Shape{2, 1, 1, 3});
  CHECK_THROWS_AS(pool_shape({2, 2, 2, 3}, {3, 1}), Error);
  CHECK_THROWS_AS(pool_shape({2, 2, 2, 3}, {2, 0}), Error);
  CHECK(pool_shape({2, 112, 7, 3}, {3, 2, 1}) == Shape{2, 56, 4, 3});
  CHECK_THROWS_WITH(pool_shape({2, 8, 8, 3}, {3, 2, 2}),
                    "pooling: padding of 2 around a window of 3 x 3; from 0 to 1 are possible");
}

TEST_CASE("average pooling: plain loops, and backward is the adjoint") {
  Exec exec(kTestDevice, 2);
  for (const Case& test : kCases)
    for (const Layout layout : kLayouts) {
      if (!fits(test, layout)) continue;
      const Shape ys = pool_shape(test.x, test.window);
      const Buffer x(Dtype::kFloat64, test.x, random_vector(test.x.count(), 1), layout);
      const Buffer dy(Dtype::kFloat64, ys, random_vector(ys.count(), 2), layout);
      const Buffer y(Dtype::kFloat64, ys, layout), dx(Dtype::kFloat64, test.x, layout);
      avg_pool_forward(exec, y, x, test.window);
      avg_pool_backward(exec, dx, dy, test.window);
      CHECK(relative_error(y.values(), plain_average(x.values(), test.x, ys, test.window)) < 1e-14);
      CHECK(relative_error(dot(y.values(), dy.values()), dot(x.values(), dx.values())) < 1e-11);
      // adjoint column by column: dy = one output
      std::vector<double> one(static_cast<size_t>(ys.count()));
      one[one.size() / 2] = 1;
      const Buffer unit(Dtype::kFloat64, ys, one, layout);
      avg_pool_backward(exec, dx, unit, test.window);
      CHECK(relative_error(dot(x.values(), dx.values()), y.values()[one.size() / 2]) < 1e-12);
    }
}

TEST_CASE("max pooling: plain loops, and backward scatters to the first maximum") {
  Exec exec(kTestDevice, 2);
  std::vector<Case> cases(std::begin(kCases), std::end(kCases));
  cases.insert(cases.end(), std::begin(kPaddedCases), std::end(kPaddedCases));
  for (const Case& test : cases)
    for (const Layout layout : kLayouts)
      for (const bool ties : {false, true}) {
        if (!fits(test, layout)) continue;
        const Shape ys = pool_shape(test.x, test.window);
        const int64_t count = test.x.count();
        const Buffer x(Dtype::kFloat64, test.x,
                       ties ? testing::random_integers(count, 1, 0, 1)
                            : random_vector(count, 1, -2, -1),  // below what padding might hold
                       layout);
        const Buffer dy(Dtype::kFloat64, ys, random_vector(ys.count(), 2), layout);
        const Buffer y(Dtype::kFloat64, ys, layout), argmax(Dtype::kUint8, ys, layout),
            dx(Dtype::kFloat64, test.x, layout);
        max_pool_forward(exec, y, argmax, x, test.window);
        max_pool_backward(exec, dx, dy, argmax, test.window);
        const auto [values, from] = plain_max(x.values(), test.x, ys, test.window);
        std::vector<double> scattered(static_cast<size_t>(count));
        const std::vector<double> dyv = dy.values();
        for (size_t i = 0; i < from.size(); ++i) scattered[from[i]] += dyv[i];
        CHECK((y.values() == values));
        CHECK(relative_error(dx.values(), scattered) < 1e-14);
      }
}

TEST_CASE("max pooling refuses windows whose position does not fit into a byte") {
  Exec exec(kTestDevice, 1);
  const Buffer x(Dtype::kFloat32, {1, 16, 16, 1}), y(Dtype::kFloat32, {1, 1, 1, 1}),
      argmax(Dtype::kUint8, {1, 1, 1, 1});
  CHECK_THROWS_AS(max_pool_forward(exec, y, argmax, x, {16, 1}), Error);
  CHECK_THROWS_AS(avg_pool_forward(exec, x, x, {2, 2}), Error);
  CHECK_THROWS_WITH(avg_pool_forward(exec, x, x, {3, 1, 1}),
                    "avg_pool: padding is for max pooling only, got 1");
}

namespace {

void check_global_average(Dtype dtype, const Shape& shape, Layout layout, double tolerance) {
  const Shape ys{shape.n, 1, 1, shape.c};
  const Buffer x(dtype, shape, random_vector(shape.count(), 1, 0, 1), layout);
  const Buffer dy(dtype, ys, random_vector(ys.count(), 2), layout);
  const Buffer y(dtype, ys, layout), dx(dtype, shape, layout);
  Exec exec(kTestDevice, 2);
  global_avg_pool_forward(exec, y, x);
  global_avg_pool_backward(exec, dx, dy);
  const std::vector<double> xv = x.values(), dyv = dy.values();
  const size_t channels = static_cast<size_t>(shape.c);
  const size_t length = static_cast<size_t>(shape.per_sample());
  std::vector<double> means(dyv.size()), spread(xv.size());
  const double pixels = static_cast<double>(shape.h * shape.w);
  for (size_t i = 0; i < xv.size(); ++i) {
    const size_t at = i / length * channels + i % channels;
    means[at] += xv[i] / pixels;
    spread[i] = dyv[at] / pixels;
  }
  INFO(to_string(dtype) << " " << to_string(shape));
  CHECK(relative_error(y.values(), means) < tolerance);
  CHECK(relative_error(dx.values(), spread) < tolerance);
}

}  // namespace

TEST_CASE("global average pooling: means, and backward spreads evenly, in every dtype and layout") {
  for (const Layout layout : kLayouts)
    for (const Shape& shape : {Shape{3, 5, 7, 16}, Shape{2, 1, 1, 48}, Shape{64, 8, 8, 32}}) {
      check_global_average(Dtype::kFloat64, shape, layout, 1e-14);
      // at most 64 positive terms in float32: 64 half ulps
      check_global_average(Dtype::kFloat32, shape, layout, 64.0 / (1 << 24));
      check_global_average(Dtype::kBFloat16, shape, layout, 1.0 / 256);
    }
  for (const int64_t channels : {1, 3, 15, 17, 100})
    check_global_average(Dtype::kFloat32, {3, 4, 5, channels}, Layout::kChannelsLast,
                         64.0 / (1 << 24));
}

TEST_CASE("global average pooling: the backward through a gate is the backward, then the gate") {
  Exec exec(kTestDevice, 2);
  for (const Layout layout : kLayouts)
    for (const Shape& shape : {Shape{3, 5, 7, 16}, Shape{2, 3, 3, 48}, Shape{2, 3, 5, 20}})
      for (const bool masked : {false, true})
        for (const bool scaled : {false, true})
          for (const float beta : {0.0f, 1.0f}) {
            if (layout == Layout::kBlocked16 && shape.c % 16 != 0) continue;
            const Shape ys{shape.n, 1, 1, shape.c};
            const Buffer dy(Dtype::kFloat64, ys, random_vector(ys.count(), 2), layout),
                mask(Dtype::kBit, shape, testing::random_integers(shape.count(), 3, 0, 1), layout),
                scale(Dtype::kFloat64, vector_shape(shape.c), random_vector(shape.c, 4));
            const std::vector<double> held = random_vector(shape.count(), 5);
            const Buffer dx(Dtype::kFloat64, shape, held, layout),
                expected(Dtype::kFloat64, shape, held, layout),
                spread(Dtype::kFloat64, shape, layout);
            const GradientGate gate{masked ? mask.view() : View{}, scaled ? scale.view() : View{}};
            global_avg_pool_backward(exec, dx, dy, gate, beta);
            global_avg_pool_backward(exec, spread, dy);
            if (gate)
              gate_backward(exec, expected, spread, gate, beta);
            else
              accumulate(exec, expected, spread, beta);
            INFO(to_string(shape) << " mask " << masked << " scale " << scaled << " beta " << beta);
            CHECK((dx.values() == expected.values()));
          }
}

TEST_CASE("max pooling in every dtype picks what float64 picks") {
  Exec exec(kTestDevice, 2);
  const Shape xs{2, 7, 6, 20};
  const PoolWindow window{3, 2, 1};
  const Shape ys = pool_shape(xs, window);
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16}) {
    const auto rounded = [&](int64_t count, uint64_t seed) {
      return testing::rounded_to(dtype, random_vector(count, seed));
    };
    std::vector<std::vector<double>> results[2];
    for (const Dtype in : {Dtype::kFloat64, dtype}) {
      const Buffer x(in, xs, rounded(xs.count(), 1)), dy(in, ys, rounded(ys.count(), 2));
      const Buffer y(in, ys), argmax(Dtype::kUint8, ys), dx(in, xs);
      max_pool_forward(exec, y, argmax, x, window);
      max_pool_backward(exec, dx, dy, argmax, window);
      results[in == dtype] = {y.values(), argmax.values(),
                              testing::rounded_to(Dtype::kBFloat16, dx.values())};
    }
    CHECK((results[0] == results[1]));
  }
}

TEST_CASE("pooling: bfloat16 is rounded once, from the exact mean") {
  Exec exec(kTestDevice, 1);
  const Shape xs{2, 4, 4, 16}, ys{2, 2, 2, 16};
  const Buffer x(Dtype::kBFloat16, xs, random_vector(xs.count(), 1)), y(Dtype::kBFloat16, ys);
  avg_pool_forward(exec, y, x, {2, 2});
  CHECK((y.values() ==
         testing::rounded_to(Dtype::kBFloat16, plain_average(x.values(), xs, ys, {2, 2}))));
}

}  // namespace ringfort
