// Batch normalisation in its modes: gradients against dual numbers through a textbook two-pass
// formula, statistics of badly centred data, running statistics, the folded filter.
#include "kernels/norm.h"

#include <catch2/catch.hpp>
#include <cfloat>

#include "tests/dual.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;
using testing::relative_error;

constexpr double kEpsilon = 1e-5;

// sum_i dy_i act(gamma xhat_i + beta) of one channel, the statistics taken from x in two passes.
Dual norm_loss(const std::vector<Dual>& x, Dual gamma, Dual beta, const std::vector<double>& dy,
               bool relu) {
  const Dual m(static_cast<double>(x.size()));
  Dual mean(0), variance(0), loss(0);
  for (const Dual value : x) mean += value / m;
  for (const Dual value : x) variance += (value - mean) * (value - mean) / m;
  const Dual deviation = sqrt(variance + Dual(kEpsilon));
  for (size_t i = 0; i < x.size(); ++i) {
    const Dual y = gamma * (x[i] - mean) / deviation + beta;
    if (!relu || y > Dual(0)) loss += Dual(dy[i]) * y;
  }
  return loss;
}

struct ChannelGradient {
  std::vector<double> dx;
  double dgamma, dbeta;
};

ChannelGradient dual_gradient(const std::vector<double>& x, double gamma, double beta,
                              const std::vector<double>& dy, bool relu) {
  std::vector<Dual> duals;
  for (const double value : x) duals.emplace_back(value);
  ChannelGradient result;
  for (Dual& value : duals) {
    value.slope = 1;
    result.dx.push_back(norm_loss(duals, Dual(gamma), Dual(beta), dy, relu).slope);
    value.slope = 0;
  }
  result.dgamma = norm_loss(duals, variable(gamma), Dual(beta), dy, relu).slope;
  result.dbeta = norm_loss(duals, Dual(gamma), variable(beta), dy, relu).slope;
  return result;
}

// The vectors of one normalisation of C channels, float64 unless told.
struct Vectors {
  Buffer mean, inv_std, scale, shift, variance, scratch0, scratch1, scratch2;
  explicit Vectors(int64_t c, Dtype dtype = Dtype::kFloat64)
      : mean(dtype, vector_shape(c)),
        inv_std(dtype, vector_shape(c)),
        scale(dtype, vector_shape(c)),
        shift(dtype, vector_shape(c)),
        variance(dtype, vector_shape(c)),
        scratch0(dtype, vector_shape(c)),
        scratch1(dtype, vector_shape(c)),
        scratch2(dtype, vector_shape(c)) {}
  NormVectors norm() const { return {mean, inv_std, scale, shift, variance}; }
  void statistics(Exec& exec, const View& x, const View& gamma, const View& beta) const {
    batch_norm_statistics(exec, norm(), x, gamma, beta, {scratch0, scratch1, scratch2}, kEpsilon);
  }
};

std::vector<double> channel_of(const std::vector<double>& values, int64_t channels, int64_t c) {
  std::vector<double> result;
  for (size_t i = static_cast<size_t>(c); i < values.size(); i += static_cast<size_t>(channels))
    result.push_back(values[i]);
  return result;
}

void check_batch_gradients(const Shape& shape, Layout layout, bool relu) {
  const auto tensor = [&](uint64_t seed) {
    return Buffer(Dtype::kFloat64, shape, random_vector(shape.count(), seed, -2, 3), layout);
  };
  const auto vector = [&](uint64_t seed) {
    return Buffer(Dtype::kFloat64, vector_shape(shape.c), random_vector(shape.c, seed, -1, 2));
  };
  const Buffer x = tensor(1), dy = tensor(2), dx = tensor(3), added = tensor(4);
  const Buffer gamma = vector(5), beta = vector(6), dgamma = vector(7), dbeta = vector(8);
  const std::vector<double> before = added.values();
  const Vectors v(shape.c);
  Exec exec(kTestDevice, 2);
  v.statistics(exec, x, gamma, beta);
  norm_gradient_sums(exec, dbeta, dgamma, x, dy, v.norm(), relu);
  batch_norm_backward(exec, dx, x, dy, v.norm(), dbeta, dgamma, relu, 0);
  batch_norm_backward(exec, added, x, dy, v.norm(), dbeta, dgamma, relu, 1);
  std::vector<double> sum = dx.values();
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += before[i];
  CHECK(relative_error(added.values(), sum) < 1e-14);
  for (int64_t c = 0; c < shape.c; ++c) {
    const size_t k = static_cast<size_t>(c);
    const ChannelGradient expected =
        dual_gradient(channel_of(x.values(), shape.c, c), gamma.values()[k], beta.values()[k],
                      channel_of(dy.values(), shape.c, c), relu);
    CHECK(relative_error(channel_of(dx.values(), shape.c, c), expected.dx) < 1e-12);
    CHECK(relative_error(dgamma.values()[k], expected.dgamma) < 1e-12);
    CHECK(relative_error(dbeta.values()[k], expected.dbeta) < 1e-12);
  }
}

}  // namespace

TEST_CASE("batch norm: dx, dgamma and dbeta against dual numbers, with and without ReLU") {
  for (const bool relu : {false, true}) {
    check_batch_gradients({3, 2, 3, 5}, Layout::kChannelsLast, relu);
    check_batch_gradients({4, 3, 1, 16}, Layout::kChannelsLast, relu);
    check_batch_gradients({2, 3, 2, 32}, Layout::kBlocked16, relu);
  }
}

TEST_CASE("batch norm: the functors' forward is differentiable to the same gradient") {
  // moments, then scale and shift, in dual numbers: the pivot is a constant
  const std::vector<double> x = random_vector(7, 1, 2, 5), dy = random_vector(7, 2);
  const double gamma = 1.3, beta = -0.2;
  const ChannelGradient expected = dual_gradient(x, gamma, beta, dy, false);
  for (size_t j = 0; j < x.size(); ++j) {
    Dual sum(0), squares(0), loss(0);
    const auto at = [&](size_t i) { return Dual(x[i], i == j ? 1 : 0); };
    for (size_t i = 0; i < x.size(); ++i) {
      const auto terms = PivotedMoments{}(at(i), Dual(3.5));
      sum += terms.value[0];
      squares += terms.value[1];
    }
    const auto norm =
        BatchNormFromMoments{7, kEpsilon}(sum, squares, Dual(3.5), Dual(gamma), Dual(beta));
    for (size_t i = 0; i < x.size(); ++i)
      loss += Dual(dy[i]) * (at(i) * norm.value[2] + norm.value[3]);
    CHECK(std::abs(loss.slope - expected.dx[j]) < 1e-12);
  }
}

TEST_CASE("batch norm: a constant channel has variance 0, not a negative one") {
  const auto norm = BatchNormFromMoments{4, kEpsilon}(4.0, 4.0 - 1e-15, 2.0, 1.5, 0.25);
  CHECK(norm.value[4] == 0);
  CHECK(norm.value[1] == Approx(1 / std::sqrt(kEpsilon)));
}

TEST_CASE("batch norm: statistics survive means of up to 10,000 in float32") {
  for (const Layout layout : {Layout::kChannelsLast, Layout::kBlocked16}) {
    const Shape shape{8, 13, 11, 16};
    std::vector<double> values = random_vector(shape.count(), 1);
    for (size_t i = 0; i < values.size(); ++i)  // channels around -10000, ..., 0, ..., 8750
      values[i] += 1250 * (static_cast<double>(i % 16) - 8);
    const Buffer x(Dtype::kFloat32, shape, values, layout);
    const Buffer ones(Dtype::kFloat32, vector_shape(16), std::vector<double>(16, 1.0));
    const Buffer zeros(Dtype::kFloat32, vector_shape(16), std::vector<double>(16, 0.0));
    const Vectors v(16, Dtype::kFloat32);
    Exec exec(kTestDevice, 2);
    v.statistics(exec, x, ones, zeros);
    for (int64_t c = 0; c < 16; ++c) {
      const std::vector<double> channel = channel_of(x.values(), 16, c);
      const double m = static_cast<double>(channel.size());
      double mean = 0, variance = 0;
      for (const double value : channel) mean += value / m;
      for (const double value : channel) variance += (value - mean) * (value - mean) / m;
      const size_t k = static_cast<size_t>(c);
      CHECK(std::abs(v.mean.values()[k] - mean) < FLT_EPSILON * std::max(1.0, std::abs(mean)));
      CHECK(relative_error(v.variance.values()[k], variance) < 1e-5);
      CHECK(relative_error(v.inv_std.values()[k], 1 / std::sqrt(variance + kEpsilon)) < 1e-5);
    }
  }
}

TEST_CASE("batch norm: the same bytes for any number of threads") {
  const Shape shape{9, 16, 15, 48};
  const Buffer x(Dtype::kFloat32, shape, random_vector(shape.count(), 1));
  const Buffer gamma(Dtype::kFloat32, vector_shape(48), random_vector(48, 2));
  const Vectors one(48, Dtype::kFloat32), three(48, Dtype::kFloat32);
  Exec serial(kTestDevice, 1), parallel(kTestDevice, 3);
  one.statistics(serial, x, gamma, gamma);
  three.statistics(parallel, x, gamma, gamma);
  CHECK((one.scale.bytes() == three.scale.bytes()));
  CHECK((one.shift.bytes() == three.shift.bytes()));
  CHECK((one.variance.bytes() == three.variance.bytes()));
}

namespace {

// Everything a training pass asks of a norm, in one dtype, against float64 by the textbook.
void check_training_norm(Dtype dtype, const NormEpilogue& parts, double tolerance) {
  const Shape shape{4, 5, 3, 16};
  const Dtype vectors = dtype == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
  const auto tensor = [&](uint64_t seed) {
    return Buffer(dtype, shape, random_vector(shape.count(), seed, -2, 3));
  };
  const auto vector = [&](uint64_t seed) {
    return Buffer(vectors, vector_shape(16), random_vector(16, seed, 0.5, 2));
  };
  const Buffer x = tensor(1), residual = tensor(2), dy = tensor(3), y(dtype, shape),
               dx(dtype, shape), mask(Dtype::kBit, shape);
  const Buffer gamma = vector(5), beta = vector(6), dgamma = vector(7), dbeta = vector(8);
  const Vectors v(16, vectors);
  NormEpilogue epilogue{.relu = parts.relu};
  if (parts.residual.data) epilogue.residual = residual;
  if (parts.mask.data) epilogue.mask = mask;
  Exec exec(kTestDevice, 2);
  batch_norm_forward(exec, y, v.norm(), x, gamma, beta, epilogue,
                     {v.scratch0, v.scratch1, v.scratch2}, kEpsilon);
  batch_norm_gradients(exec, dx, dbeta, dgamma, x, dy, gamma, v.norm(), false, 0);
  const std::vector<double> ys = y.values(), r = residual.values();
  std::vector<double> expected(ys.size());
  for (int64_t c = 0; c < 16; ++c) {
    const auto k = static_cast<size_t>(c);
    const std::vector<double> channel = channel_of(x.values(), 16, c);
    const double m = static_cast<double>(channel.size());
    double mean = 0, variance = 0;
    for (const double value : channel) mean += value / m;
    for (const double value : channel) variance += (value - mean) * (value - mean) / m;
    CHECK(relative_error(v.variance.values()[k], variance) < 1e-4);
    for (size_t i = 0; i < channel.size(); ++i) {
      const size_t at = i * 16 + k;
      double z = gamma.values()[k] * (channel[i] - mean) / std::sqrt(variance + kEpsilon) +
                 beta.values()[k];
      if (epilogue.residual.data) z += r[at];
      expected[at] = epilogue.relu ? std::max(z, 0.0) : z;
    }
    const ChannelGradient gradient = dual_gradient(channel, gamma.values()[k], beta.values()[k],
                                                   channel_of(dy.values(), 16, c), false);
    CHECK(relative_error(channel_of(dx.values(), 16, c), gradient.dx) < 4 * tolerance);
    CHECK(std::abs(dgamma.values()[k] - gradient.dgamma) < 1e-5 * m);
    CHECK(std::abs(dbeta.values()[k] - gradient.dbeta) < 1e-5 * m);
  }
  CHECK(relative_error(ys, expected) < tolerance);
  if (!epilogue.mask.data) return;
  const std::vector<double> on = mask.values();
  for (size_t i = 0; i < on.size(); ++i) REQUIRE((on[i] != 0) == (ys[i] > 0));
}

}  // namespace

TEST_CASE("batch norm of a training pass: output, mask and gradients in every dtype") {
  const float some = 0;
  const View wanted{const_cast<float*>(&some), Dtype::kFloat32, vector_shape(1)};
  for (const auto& [dtype, tolerance] :
       {std::pair{Dtype::kFloat64, 1e-13}, {Dtype::kFloat32, 1e-5}, {Dtype::kBFloat16, 0x1p-7}})
    for (const NormEpilogue& parts :
         {NormEpilogue{}, NormEpilogue{.relu = true}, NormEpilogue{.relu = true, .mask = wanted},
          NormEpilogue{.relu = true, .residual = wanted},
          NormEpilogue{.relu = true, .residual = wanted, .mask = wanted}})
      check_training_norm(dtype, parts, tolerance);
}

TEST_CASE("batch norm: what a library leaves out follows from mean and inv_std") {
  const Shape shape{4, 5, 3, 16};
  Exec exec(kTestDevice, 2);
  for (const Dtype dtype : {Dtype::kFloat64, Dtype::kFloat32}) {
    const Buffer x(dtype, shape, random_vector(shape.count(), 1, -2, 3));
    const Buffer gamma(dtype, vector_shape(16), random_vector(16, 2));
    const Vectors whole(16, dtype);
    Vectors part(16, dtype);
    whole.statistics(exec, x, gamma, gamma);
    part.mean.set(whole.mean.values());
    part.inv_std.set(whole.inv_std.values());
    complete_norm(exec, part.norm(), gamma, gamma, kEpsilon);
    const double tolerance = dtype == Dtype::kFloat64 ? 1e-12 : 1e-5;
    CHECK(relative_error(part.scale.values(), whole.scale.values()) < tolerance);
    CHECK(relative_error(part.shift.values(), whole.shift.values()) < tolerance);
    CHECK(relative_error(part.variance.values(), whole.variance.values()) < tolerance);
  }
  // A constant channel: nothing is left of the variance beside epsilon.
  CHECK(
      BatchNormFromSaved{kEpsilon}(0.0, 1 / std::sqrt(kEpsilon * (1 - 1e-15)), 1.0, 0.0).value[2] ==
      0);
}

TEST_CASE("running norm: vectors, output and dx against dual numbers, with and without ReLU") {
  const Shape shape{2, 3, 3, 16};
  for (const Layout layout : {Layout::kChannelsLast, Layout::kBlocked16})
    for (const bool relu : {false, true}) {
      const auto vector = [&](uint64_t seed, double low) {
        return Buffer(Dtype::kFloat64, vector_shape(16), random_vector(16, seed, low, 2));
      };
      const Buffer mean = vector(1, -1), variance = vector(2, 0.1), gamma = vector(3, -1),
                   beta = vector(4, -1);
      const Buffer x(Dtype::kFloat64, shape, random_vector(shape.count(), 5, -2, 2), layout);
      const Buffer dy(Dtype::kFloat64, shape, random_vector(shape.count(), 6), layout);
      const Buffer y(Dtype::kFloat64, shape, layout), dx(Dtype::kFloat64, shape, layout);
      const Vectors v(16);
      Exec exec(kTestDevice, 2);
      running_norm(exec, v.norm(), mean, variance, gamma, beta, kEpsilon);
      apply_norm(exec, y, x, v.norm(), {.relu = relu});
      running_norm_backward(exec, dx, x, dy, v.norm(), relu, 0);
      running_norm_backward(exec, dx, x, dy, v.norm(), relu, 1);  // twice the gradient
      const std::vector<double> xv = x.values(), dyv = dy.values(), m = mean.values(),
                                s = variance.values(), g = gamma.values(), b = beta.values();
      std::vector<double> expected_y(xv.size()), expected_dx(xv.size());
      for (size_t i = 0; i < xv.size(); ++i) {
        const size_t c = i % 16;
        Dual z =
            Dual(g[c]) * (variable(xv[i]) - Dual(m[c])) / sqrt(Dual(s[c] + kEpsilon)) + Dual(b[c]);
        if (relu && z <= Dual(0)) z = Dual(0);
        expected_y[i] = z.value;
        expected_dx[i] = 2 * dyv[i] * z.slope;
      }
      CHECK((v.mean.values() == m));
      CHECK(relative_error(y.values(), expected_y) < 1e-14);
      CHECK(relative_error(dx.values(), expected_dx) < 1e-14);
    }
}

TEST_CASE("update_running takes the unbiased variance and refuses a single value") {
  const std::vector<double> old_mean = {1, -2, 0}, old_variance = {1, 4, 0.5};
  const Buffer mean(Dtype::kFloat64, vector_shape(3), old_mean),
      variance(Dtype::kFloat64, vector_shape(3), old_variance);
  const Vectors v(3);
  const Buffer batch_mean(Dtype::kFloat64, vector_shape(3), {0.5, 3, 7}),
      batch_variance(Dtype::kFloat64, vector_shape(3), {2, 0, 1});
  NormVectors norm = v.norm();
  norm.mean = batch_mean;
  norm.variance = batch_variance;
  Exec exec(kTestDevice, 1);
  CHECK_THROWS_AS(update_running(exec, mean, variance, norm, 0.25f, 1), Error);
  CHECK((mean.values() == old_mean));
  update_running(exec, mean, variance, norm, 0.25f, 5);
  for (size_t c = 0; c < 3; ++c) {
    CHECK(mean.values()[c] == Approx(0.75 * old_mean[c] + 0.25 * batch_mean.values()[c]));
    CHECK(variance.values()[c] ==
          Approx(0.75 * old_variance[c] + 0.25 * 5.0 / 4.0 * batch_variance.values()[c]));
  }
}

TEST_CASE("fold_scale multiplies each filter by its channel's scale") {
  const Shape shape{5, 3, 3, 4};
  const Buffer w(Dtype::kFloat32, shape, testing::random_integers(shape.count(), 1, -9, 9));
  const Buffer scale(Dtype::kFloat32, vector_shape(5), {1, -2, 0.5, 0, 3}),
      folded(Dtype::kFloat32, shape);
  Exec exec(kTestDevice, 2);
  fold_scale(exec, folded, w, scale);
  const std::vector<double> wv = w.values(), sv = scale.values(), got = folded.values();
  int64_t wrong = 0;
  for (size_t i = 0; i < wv.size(); ++i) wrong += got[i] != wv[i] * sv[i / 36];
  CHECK(wrong == 0);
}

}  // namespace ringfort
