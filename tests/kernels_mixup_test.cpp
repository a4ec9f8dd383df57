// Mixtures of images: which, how much of each, and the moments of Beta(alpha, alpha).
#include "kernels/mixup.h"

#include <catch2/catch.hpp>

#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_integers;
using testing::random_vector;

struct Mixed {
  std::vector<double> images, others, share;
};

Mixed mixed(const Shape& shape, const std::vector<double>& images,
            const std::vector<double>& labels, const std::vector<double>& samples, double alpha,
            const RandomKey& key, int threads = 1) {
  Exec exec(kTestDevice, threads);
  const Buffer x(Dtype::kFloat32, shape, images), out(Dtype::kFloat32, shape);
  const Buffer y(Dtype::kInt32, vector_shape(shape.n), labels);
  const Buffer numbers(Dtype::kInt64, vector_shape(shape.n), samples);
  const Buffer others(Dtype::kInt32, vector_shape(shape.n)),
      share(Dtype::kFloat32, vector_shape(shape.n));
  mix_up(exec, out, {others, share}, x, y, numbers, alpha, key);
  return {out.values(), others.values(), share.values()};
}

std::vector<double> first_samples(int64_t count) {
  std::vector<double> numbers(static_cast<size_t>(count));
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<double>(i);
  return numbers;
}

constexpr RandomKey kKey{3, Purpose::kMixup, 1};

}  // namespace

TEST_CASE("mixup: each image is mixed with the one as far from the other end") {
  for (const int64_t n : {1, 2, 5, 8}) {
    const Shape shape{n, 3, 2, 3};
    const auto images = random_vector(shape.count(), 1, 0, 1), labels = random_integers(n, 2, 0, 9);
    const Mixed result = mixed(shape, images, labels, first_samples(n), 0.7, kKey);
    const int64_t size = shape.per_sample();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t j = n - 1 - i;
      const double share = result.share[static_cast<size_t>(i)];
      CHECK(share >= 0.5);
      CHECK(share <= 1);
      CHECK(result.others[static_cast<size_t>(i)] == labels[static_cast<size_t>(j)]);
      for (int64_t k = 0; k < size; ++k)
        CHECK(result.images[static_cast<size_t>(i * size + k)] ==
              Approx(share * images[static_cast<size_t>(i * size + k)] +
                     (1 - share) * images[static_cast<size_t>(j * size + k)])
                  .margin(1e-6));
    }
  }
}

TEST_CASE("mixup: shares have the moments of Beta(alpha, alpha)") {
  // E (s - 1/2)^2 = 1 / (4 (2 a + 1)), E (s - 1/2)^4 = 3 / (16 (2 a + 1) (2 a + 3)), the same for
  // the larger of s and 1 - s.
  constexpr int64_t kDraws = 4096;
  const Shape shape{kDraws, 1, 1, 1};
  const std::vector<double> zeros(kDraws, 0);
  for (const double alpha : {0.01, 0.2, 1.0, 1.4, 8.0}) {
    const Mixed result = mixed(shape, zeros, zeros, first_samples(kDraws), alpha, kKey);
    double second = 0, fourth = 0;
    for (const double share : result.share) {
      const double square = (share - 0.5) * (share - 0.5);
      second += square / kDraws;
      fourth += square * square / kDraws;
    }
    INFO("alpha " << alpha);
    const double a = 2 * alpha + 1, b = a + 2;
    const double expected = 1 / (4 * a), variance = 3 / (16 * a * b) - expected * expected;
    CHECK(std::abs(second - expected) < 5 * std::sqrt(variance / kDraws));
    // E (s - 1/2)^8, for the spread of the fourth powers
    const double eighth = 105 / (256 * a * b * (b + 2) * (b + 4)), mean = 3 / (16 * a * b);
    CHECK(std::abs(fourth - mean) < 5 * std::sqrt((eighth - mean * mean) / kDraws));
  }
}

TEST_CASE("mixup: a sample's share depends on seed, epoch and the sample alone") {
  const Shape shape{6, 2, 2, 1};
  const auto images = random_vector(shape.count(), 1, 0, 1), labels = random_integers(6, 2, 0, 9);
  const Mixed once = mixed(shape, images, labels, {5, 0, 7, 7, 9, 1}, 1.4, kKey);
  CHECK(once.share[2] == once.share[3]);
  CHECK(once.share[0] != once.share[1]);
  const Mixed moved = mixed(shape, images, labels, {9, 7, 1, 5, 0, 2}, 1.4, kKey);
  CHECK(moved.share[0] == once.share[4]);
  CHECK(moved.share[3] == once.share[0]);
  CHECK(mixed(shape, images, labels, {5, 0, 7, 7, 9, 1}, 1.4, {3, Purpose::kMixup, 2}).share !=
        once.share);
  CHECK(mixed(shape, images, labels, {5, 0, 7, 7, 9, 1}, 1.4, {4, Purpose::kMixup, 1}).share !=
        once.share);
  for (const int threads : testing::thread_counts()) {
    const Mixed again = mixed(shape, images, labels, {5, 0, 7, 7, 9, 1}, 1.4, kKey, threads);
    CHECK(again.share == once.share);
    CHECK(again.images == once.images);
  }
}

TEST_CASE("mixup: refuses what it cannot mix") {
  Exec exec(kTestDevice);
  const Shape shape{2, 2, 2, 1};
  const Buffer x(Dtype::kFloat32, shape), out(Dtype::kFloat32, shape);
  const Buffer labels(Dtype::kInt32, vector_shape(2), {0, 1}),
      samples(Dtype::kInt64, vector_shape(2), {0, 1});
  const Buffer others(Dtype::kInt32, vector_shape(2)), share(Dtype::kFloat32, vector_shape(2));
  const MixtureViews mixture{others, share};
  CHECK_THROWS_AS(mix_up(exec, out, mixture, x, labels, samples, 0, kKey), Error);
  CHECK_THROWS_AS(mix_up(exec, x, mixture, x, labels, samples, 1, kKey), Error);
  CHECK_THROWS_AS(mix_up(exec, out, {others, {}}, x, labels, samples, 1, kKey), Error);
}

}  // namespace ringfort
