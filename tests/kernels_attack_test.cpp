// Attack kernels: what every threat model promises (ball, then box, exactly), closed forms of the
// steps, the laws of the random starts, and independence of batch and threads.
#include "kernels/attack.h"

#include <catch2/catch.hpp>
#include <cfloat>

#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;

// x_nat -+ eps is rounded once, below 1: half an ulp of 1 is 2^-25.
constexpr double kHalfUlp = 1.0 / (1 << 25);
constexpr float kEps = 8.0f / 255, kAlpha = 2.0f / 255;
constexpr LinfProjection kLinf{kEps, 0, 1};
constexpr RandomKey kKey{11, Purpose::kAttackStart, 1};

// Grey levels k / 255, black and white included.
std::vector<double> grey_levels(int64_t count, uint64_t seed) {
  std::vector<double> values = testing::random_integers(count, seed, 0, 255);
  for (double& value : values) value = static_cast<double>(static_cast<float>(value) / 255.0f);
  return values;
}

// Gradients with zeros among them.
std::vector<double> gradients(int64_t count, uint64_t seed) {
  std::vector<double> values = random_vector(count, seed);
  for (size_t i = 0; i < values.size(); i += 7) values[i] = 0;
  return values;
}

int64_t outside_linf(const std::vector<double>& x, const std::vector<double>& nat) {
  int64_t outside = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const bool in_ball = std::abs(x[i] - nat[i]) <= static_cast<double>(kEps) + kHalfUlp;
    outside += !(in_ball && x[i] >= 0 && x[i] <= 1);
  }
  return outside;
}

// |x - nat|_2 of each sample
std::vector<double> distances(const Buffer& x, const Buffer& nat) {
  const std::vector<double> a = x.values(), b = nat.values();
  const size_t length = static_cast<size_t>(x.view().shape.per_sample());
  std::vector<double> result(static_cast<size_t>(x.view().shape.n));
  for (size_t i = 0; i < a.size(); ++i) result[i / length] += (a[i] - b[i]) * (a[i] - b[i]);
  for (double& value : result) value = std::sqrt(value);
  return result;
}

testing::DeviceVector<int64_t> sample_indices(int64_t count) {
  testing::DeviceVector<int64_t> indices(static_cast<size_t>(count));
  for (size_t i = 0; i < indices.size(); ++i) indices[i] = 1000 + 3 * static_cast<int64_t>(i);
  return indices;
}

}  // namespace

TEST_CASE("Linf: start and ten steps stay in the ball and exactly in the box") {
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat64}) {
    const Shape shape{9, 31, 7, 3};
    const Buffer nat(dtype, shape, grey_levels(shape.count(), 1)), x(dtype, shape);
    Exec exec(kTestDevice, 2);
    linf_start(exec, x, nat, kLinf, kKey, sample_indices(9).data());
    CHECK(outside_linf(x.values(), nat.values()) == 0);
    for (uint64_t step = 0; step < 10; ++step) {
      const Buffer grad(dtype, shape, gradients(shape.count(), 2 + step % 2));
      linf_step(exec, x, grad, nat, {kAlpha, kLinf});
      CHECK(outside_linf(x.values(), nat.values()) == 0);
    }
  }
}

TEST_CASE("nearby start: noise of 0.001 around the image, within ball and box") {
  const Shape shape{50, 8, 8, 3};
  const Buffer nat(Dtype::kFloat64, shape, random_vector(shape.count(), 1, 0.1, 0.9)),
      x(Dtype::kFloat64, shape), close(Dtype::kFloat64, shape);
  const testing::DeviceVector<int64_t> samples = sample_indices(50);
  Exec exec(kTestDevice, 2);
  const RandomKey key{5, Purpose::kAttackStart, 2};
  nearby_start(exec, x, nat, {0.1f, 0, 1}, key, samples.data());
  nearby_start(exec, close, nat, {0.0005f, 0, 1}, key, samples.data());
  const std::vector<double> from = nat.values(), to = x.values(), cut = close.values();
  double sum = 0, squares = 0;
  for (size_t i = 0; i < from.size(); ++i) {
    const double d = to[i] - from[i];
    sum += d;
    squares += d * d;
    CHECK(std::abs(cut[i] - from[i]) <= 0.0005 * (1 + 1e-6));
  }
  const auto n = static_cast<double>(from.size());
  CHECK(std::abs(sum / n) < 5 * 0.001 / std::sqrt(n));
  CHECK(std::sqrt(squares / n) == Approx(0.001).epsilon(5 / std::sqrt(2 * n)));
}

TEST_CASE("Linf step: alpha times the sign, cut by ball and box") {
  const auto step = [](float x, float grad, float nat) {
    return LinfStep{0.25f, {0.5f, 0, 1}}(x, grad, nat);
  };
  CHECK(step(0.5f, 1e-30f, 0.5f) == 0.75f);  // the size of the gradient does not matter
  CHECK(step(0.5f, -3, 0.5f) == 0.25f);
  CHECK(step(0.5f, 0, 0.5f) == 0.5f);  // sign(0) = 0
  CHECK(step(0.875f, 1, 0.5f) == 1);   // box
  CHECK(step(0.125f, -1, 0.5f) == 0);
  CHECK(step(0.625f, 1, 0.25f) == 0.75f);  // ball
  CHECK(step(0, 1, 0) == 0.25f);
  CHECK(step(0, -1, 0) == 0);  // at the bounds
  CHECK(step(1, 1, 1) == 1);
  CHECK(step(0.9f, 0, 0.25f) == 0.75f);  // a point outside the ball is brought back
  CHECK(LinfStep{0.25f, {0.5f, -1, 2}}(0.875f, 1.0f, 0.75f) == 1.125f);  // the box is a parameter
}

TEST_CASE(
    "Linf start: uniform over the ball where the box does not cut, inside the box where it does") {
  const Shape shape{4, 64, 64, 3};
  const size_t count = static_cast<size_t>(shape.count());
  const Buffer nat(Dtype::kFloat64, shape, std::vector<double>(count, 0.5)),
      x(Dtype::kFloat64, shape);
  Exec exec(kTestDevice, 2);
  linf_start(exec, x, nat, kLinf, kKey, sample_indices(4).data());
  double sum = 0, squares = 0, largest = 0;
  for (const double value : x.values()) {
    const double t = (value - 0.5) / static_cast<double>(kEps);
    sum += t;
    squares += t * t;
    largest = std::max(largest, std::abs(t));
  }
  const double n = static_cast<double>(count);
  CHECK(std::abs(sum / n) < 5 * std::sqrt(1.0 / 3 / n));  // U(-1, 1): variance 1/3
  CHECK(std::abs(squares / n - 1.0 / 3) < 5 * std::sqrt(4.0 / 45 / n));
  CHECK(largest > 0.999);
  CHECK(largest <= 1);
}

TEST_CASE("random starts do not depend on the batch or on threads, but on sample and restart") {
  const Shape shape{6, 33, 29, 3};
  const Buffer nat(Dtype::kFloat32, shape, grey_levels(shape.count(), 1));
  const testing::DeviceVector<int64_t> samples = sample_indices(6);
  Exec serial(kTestDevice, 1), parallel(kTestDevice, 3);
  const auto check = [&](const auto& start) {
    const Buffer together(Dtype::kFloat32, shape), apart(Dtype::kFloat32, shape),
        other(Dtype::kFloat32, shape);
    start(parallel, together.view(), nat.view(), kKey, samples.data());
    for (const auto& [first, count] : {std::pair{0, 2}, {2, 3}, {5, 1}})
      start(serial, apart.view().samples(first, count), nat.view().samples(first, count), kKey,
            samples.data() + first);
    CHECK((together.bytes() == apart.bytes()));
    start(serial, other.view(), nat.view(), RandomKey{11, Purpose::kAttackStart, 2},
          samples.data());
    CHECK((together.bytes() != other.bytes()));
  };
  check([](Exec& exec, const View& x, const View& n, RandomKey key, const int64_t* s) {
    linf_start(exec, x, n, kLinf, key, s);
  });
  check([](Exec& exec, const View& x, const View& n, RandomKey key, const int64_t* s) {
    l2_start(exec, x, n, 0.5f, 0, 1, key, s);
  });
}

TEST_CASE("L2 start: uniform radius, random direction, one independent of the other") {
  const int64_t count = 400;
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat64}) {
    const Shape shape{count, 8, 8, 3};
    const Buffer x(dtype, shape);
    const Buffer nat(dtype, shape, std::vector<double>(static_cast<size_t>(shape.count()), 0.5));
    Exec exec(kTestDevice, 2);
    l2_start(exec, x, nat, 0.5f, 0, 1, kKey, sample_indices(count).data());
    const std::vector<double> radii = distances(x, nat), values = x.values();
    CHECK(*std::max_element(radii.begin(), radii.end()) <= 0.5);
    CHECK(*std::max_element(radii.begin(), radii.end()) > 0.49);
    double sum = 0, first_pixel_and_radius = 0, two_directions = 0;
    for (size_t n = 0; n < radii.size(); ++n) {
      sum += radii[n];
      // both factors scaled to variance 1
      const double direction = (values[n * 192] - 0.5) / radii[n] * std::sqrt(192.0);
      first_pixel_and_radius += direction * (radii[n] / 0.5 - 0.5) * std::sqrt(12.0) / count;
    }
    for (size_t i = 0; i < 192; ++i) two_directions += (values[i] - 0.5) * (values[192 + i] - 0.5);
    CHECK(std::abs(sum / count - 0.25) < 5 * 0.5 * std::sqrt(1.0 / 12 / count));
    CHECK(std::abs(first_pixel_and_radius) < 5 / std::sqrt(count));
    CHECK(std::abs(two_directions / (radii[0] * radii[1])) < 5 / std::sqrt(192.0));
  }
}

TEST_CASE("L2 start: in a corner of the box it stays inside ball and box") {
  const Shape shape{50, 8, 8, 3};
  const Buffer x(Dtype::kFloat32, shape);
  const Buffer corner(Dtype::kFloat32, shape,
                      std::vector<double>(static_cast<size_t>(shape.count())));
  Exec exec(kTestDevice, 2);
  l2_start(exec, x, corner, 0.5f, 0, 1, kKey, sample_indices(50).data());
  const std::vector<double> values = x.values(), radii = distances(x, corner);
  CHECK(*std::min_element(values.begin(), values.end()) == 0);
  CHECK(*std::max_element(radii.begin(), radii.end()) <= 0.5);
}

TEST_CASE("L2 step: moves by alpha along the gradient, whatever its length") {
  for (const double size : {1e-6, 1.0, 1e6}) {
    const Shape shape{5, 9, 9, 3};
    std::vector<double> g = gradients(shape.count(), 1);
    for (double& value : g) value *= size;
    const Buffer nat(Dtype::kFloat64, shape, random_vector(shape.count(), 2, 0.3, 0.7));
    const Buffer grad(Dtype::kFloat64, shape, g), x(Dtype::kFloat64, shape, nat.values());
    Exec exec(kTestDevice, 2);
    l2_step(exec, x, grad, nat, 0.25f, 1.0f, 0, 1);
    const std::vector<double> xv = x.values(), nv = nat.values(), moved = distances(x, nat);
    const Buffer zero(Dtype::kFloat64, shape, std::vector<double>(g.size()));
    const std::vector<double> lengths = distances(grad, zero);
    for (size_t n = 0; n < 5; ++n) {
      CHECK(testing::relative_error(moved[n], 0.25) < 2e-4 * std::min(1.0, 1e-6 / size) + 1e-12);
      const size_t i = n * 243 + 5;
      CHECK(xv[i] - nv[i] == Approx(0.25 * g[i] / lengths[n]).epsilon(1e-4));
    }
  }
}

TEST_CASE("L2 step: never leaves ball or box, in float32 and for large images") {
  for (const Shape& shape : {Shape{3, 32, 32, 3}, Shape{2, 224, 224, 3}})
    for (const float eps : {0.5f, 3.0f}) {
      const double bound = static_cast<double>(eps);
      const Buffer nat(Dtype::kFloat32, shape, grey_levels(shape.count(), 1));
      const Buffer middle(Dtype::kFloat32, shape, random_vector(shape.count(), 2, 0.4, 0.6));
      const Buffer x(Dtype::kFloat32, shape, nat.values());
      const Buffer y(Dtype::kFloat32, shape, middle.values());  // where the box does not help
      Exec exec(kTestDevice, 2);
      for (uint64_t step = 0; step < 6; ++step) {
        const Buffer grad(Dtype::kFloat32, shape, random_vector(shape.count(), 10 + step));
        l2_step(exec, x, grad, nat, eps / 2, eps, 0, 1);
        l2_step(exec, y, grad, middle, eps / 2, eps, 0, 1);
        const std::vector<double> values = x.values();
        for (const double distance : distances(x, nat)) CHECK(distance <= bound);
        for (const double distance : distances(y, middle)) CHECK(distance <= bound);
        CHECK(*std::min_element(values.begin(), values.end()) >= 0);
        CHECK(*std::max_element(values.begin(), values.end()) <= 1);
      }
    }
}

TEST_CASE("L2 step: equal gradients everywhere leave the ball by rounding of the pixels at most") {
  // pixels of one binade are then all rounded in the same direction, by at most half an ulp
  for (const Shape& shape : {Shape{3, 32, 32, 3}, Shape{2, 224, 224, 3}})
    for (const float eps : {0.5f, 3.0f}) {
      const Buffer nat(Dtype::kFloat32, shape, random_vector(shape.count(), 1, 0.4, 0.6));
      const Buffer x(Dtype::kFloat32, shape, nat.values());
      const Buffer grad(Dtype::kFloat32, shape,
                        std::vector<double>(static_cast<size_t>(shape.count()), 0.0013));
      Exec exec(kTestDevice, 2);
      l2_step(exec, x, grad, nat, 4 * eps, eps, 0, 1);
      const double slack = kHalfUlp * std::sqrt(static_cast<double>(shape.per_sample()));
      const double bound = static_cast<double>(eps);
      for (const double distance : distances(x, nat)) {
        CHECK(distance <= bound + slack);
        CHECK(distance >= (bound - slack) * (1 - 3e-6));  // and the whole ball is used
      }
    }
}

TEST_CASE("L2 step: without a gradient a point inside the ball stays") {
  const Shape shape{2, 4, 4, 3};
  const Buffer nat(Dtype::kFloat32, shape, grey_levels(shape.count(), 1));
  const Buffer x(Dtype::kFloat32, shape, nat.values()),
      zero(Dtype::kFloat32, shape, std::vector<double>(96));
  Exec exec(kTestDevice, 1);
  l2_step(exec, x, zero, nat, 0.1f, 0.5f, 0, 1);
  CHECK((x.values() == nat.values()));
}

TEST_CASE("normal_quantile: known quantiles, symmetry, moments") {
  // scipy.stats.norm.ppf
  const std::pair<double, double> known[] = {
      {0.5, 0},
      {0.6, 0.2533471031357997},
      {0.8413447460685429, 1},
      {0.975, 1.959963984540054},
      {0.98, 2.0537489106318225},
      {0.999, 3.090232306167813},
      {1e-6, -4.753424308822899},
      {0.01, -2.3263478740408408},
      {0.3, -0.5244005127080407},
      {0x1p-24, -5.294704084854597},
      {0.05, -1.6448536269514726},
  };
  // The quantile's documented errors: of the formula, and with float32's rounding. In float32 the
  // rounding of u itself counts more than any formula where the quantile is steep: only the others.
  for (const auto& [u, z] : known) {
    CHECK(normal_quantile(u) == Approx(z).epsilon(7e-8).margin(1e-15));
    if (u > 0.001 && u < 0.95)
      CHECK(static_cast<double>(normal_quantile(static_cast<float>(u))) ==
            Approx(normal_quantile(static_cast<double>(static_cast<float>(u))))
                .epsilon(4e-7)
                .margin(1e-15));
  }
  for (const double u : {0x1p-24, 0.001, 0.3})
    CHECK(normal_quantile(1 - u) == Approx(-normal_quantile(u)));

  constexpr uint32_t kCount = 200000;
  double sum = 0, squares = 0, fourth = 0;
  for (uint32_t i = 0; i < kCount; ++i) {
    const double z = static_cast<double>(normal_quantile(uniform01(kKey.word(1, i))));
    sum += z;
    squares += z * z;
    fourth += z * z * z * z;
  }
  CHECK(std::abs(sum / kCount) < 5 / std::sqrt(kCount));
  CHECK(std::abs(squares / kCount - 1) < 5 * std::sqrt(2.0 / kCount));
  CHECK(std::abs(fourth / kCount - 3) < 5 * std::sqrt(96.0 / kCount));
}

TEST_CASE("attacks refuse other dtypes and blocked views") {
  Exec exec(kTestDevice, 1);
  const int64_t sample = 0;
  const Buffer narrow(Dtype::kBFloat16, {1, 2, 2, 16}),
      blocked(Dtype::kFloat32, {1, 2, 2, 16}, Layout::kBlocked16);
  CHECK_THROWS_WITH(l2_step(exec, narrow, narrow, narrow, 1, 1, 0, 1), Catch::Contains("bfloat16"));
  CHECK_THROWS_WITH(l2_start(exec, blocked, blocked, 1, 0, 1, kKey, &sample),
                    Catch::Contains("channels last"));
  CHECK_THROWS_WITH(linf_step(exec, narrow, narrow, narrow, {kAlpha, kLinf}),
                    Catch::Contains("bfloat16"));
  CHECK_THROWS_WITH(linf_start(exec, narrow, narrow, kLinf, kKey, &sample),
                    Catch::Contains("bfloat16"));
}

}  // namespace ringfort
