// Dropout: which elements fall is decided by key, sample and element alone, in every layout, dtype
// and batch; the rest is scaled; the backward drops the same.
#include "kernels/dropout.h"

#include <catch2/catch.hpp>

#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;
using Doubles = std::vector<double>;

constexpr RandomKey kKey{5, Purpose::kDropout, 3};

Doubles dropped(const Shape& shape, const Doubles& x, const Doubles& samples, double rate,
                RandomKey key = kKey, Layout layout = Layout::kChannelsLast,
                Dtype dtype = Dtype::kFloat64, int threads = 2) {
  Exec exec(kTestDevice, threads);
  const Buffer from(dtype, shape, x, layout), to(dtype, shape, layout),
      indices(Dtype::kInt64, vector_shape(shape.n), samples);
  dropout(exec, to, from, rate, key, indices.view().as<const int64_t>(), 0);
  return to.values();
}

}  // namespace

TEST_CASE("dropout: by its definition, number by number") {
  const Shape shape{2, 3, 5, 7};  // neighbours share a call of the generator across pixels
  const Doubles x = random_vector(shape.count(), 1, 1, 2), samples = {40, 7};
  const Doubles y = dropped(shape, x, samples, 0.375);
  for (size_t i = 0; i < y.size(); ++i) {
    const auto sample = static_cast<uint64_t>(samples[i / 105]);
    const bool kept = uniform01(kKey.word(sample, static_cast<uint32_t>(i % 105))) >= 0.375f;
    REQUIRE(y[i] == (kept ? x[i] * 1.6 : 0));
  }
}

TEST_CASE("dropout: the share that falls, and the mean that stays") {
  const Shape shape{8, 16, 16, 32};
  const auto count = static_cast<double>(shape.count());
  const Doubles ones(static_cast<size_t>(shape.count()), 1), samples = {0, 1, 2, 3, 4, 5, 6, 7};
  for (const double rate : {0.0, 0.1, 0.5, 0.9}) {
    INFO("rate " << rate);
    const Doubles y = dropped(shape, ones, samples, rate);
    double fallen = 0, sum = 0;
    for (const double value : y) fallen += value == 0, sum += value;
    const double deviation = 6 * std::sqrt(rate * (1 - rate) / count);
    CHECK(std::abs(fallen / count - rate) <= deviation);
    CHECK(std::abs(sum / count - 1) <= deviation / (1 - rate) + 1e-12);
  }
}

TEST_CASE("dropout: the same elements whatever layout, dtype, batch and threads") {
  const Shape shape{3, 4, 5, 32}, alone{1, 4, 5, 32};
  const Doubles x(static_cast<size_t>(shape.count()), 2), samples = {9, 4, 30};
  const Doubles y = dropped(shape, x, samples, 0.5);
  CHECK((dropped(shape, x, samples, 0.5, kKey, Layout::kBlocked16) == y));
  CHECK((dropped(shape, x, samples, 0.5, kKey, Layout::kBlocked16, Dtype::kBFloat16) == y));
  CHECK((dropped(shape, x, samples, 0.5, kKey, Layout::kChannelsLast, Dtype::kFloat32, 1) == y));
  const Doubles second(x.begin(), x.begin() + alone.count());
  const Doubles its_own = dropped(alone, second, {4}, 0.5);
  CHECK(std::equal(its_own.begin(), its_own.end(), y.begin() + alone.count()));

  for (const RandomKey& other : {RandomKey{6, Purpose::kDropout, 3}, {5, Purpose::kDropout, 4}})
    CHECK((dropped(shape, x, samples, 0.5, other) != y));
  CHECK((dropped(shape, x, {9, 5, 30}, 0.5) != y));
}

TEST_CASE("dropout adds to what is there, or overwrites it unread") {
  Exec exec(kTestDevice, 1);
  const Shape shape{2, 2, 3, 5};
  const Doubles dy = random_vector(shape.count(), 1), before = random_vector(shape.count(), 2),
                samples = {1, 2};
  const Doubles fresh = dropped(shape, dy, samples, 0.5);
  const Buffer from(Dtype::kFloat64, shape, dy), indices(Dtype::kInt64, vector_shape(2), samples);
  for (const float beta : {0.0f, 1.0f}) {
    const Buffer dx(Dtype::kFloat64, shape, beta == 0 ? Doubles(dy.size(), NAN) : before);
    dropout(exec, dx, from, 0.5, kKey, indices.view().as<const int64_t>(), beta);
    const Doubles actual = dx.values();
    for (size_t i = 0; i < dy.size(); ++i)
      REQUIRE(actual[i] == fresh[i] + (beta == 0 ? 0 : before[i]));
  }
  const int64_t* none = nullptr;
  CHECK_THROWS_WITH(dropout(exec, from, from, 1, kKey, none, 0),
                    "dropout: the rate must be in [0, 1), got 1");
}

}  // namespace ringfort
