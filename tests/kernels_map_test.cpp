// The elementwise launchers against plain loops: every dtype and layout, awkward sizes, aliasing.
// Values are small integers, exact in every dtype, so that results must be equal, not just close.
#include "kernels/map.h"

#include <catch2/catch.hpp>

#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_integers;

constexpr Dtype kAllDtypes[] = {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat64,
                                Dtype::kInt32,   Dtype::kUint8,    Dtype::kBit};
constexpr int64_t kSizes[] = {0, 1, 7, 8, 15, 16, 17, 31, 33, 511, 512, 513, 1023, 20011};

struct SumAndLess {
  template <class S>
  HD Results<S, 2> operator()(S a, S b) const {
    return {{a + b, S(a < b)}};
  }
};

struct Double {
  template <class S>
  HD S operator()(S x) const {
    return x + x;
  }
};

// What a view of this dtype holds after a small integer was stored.
double stored(Dtype dtype, double value) {
  return dtype == Dtype::kBit ? static_cast<double>(value != 0) : value;
}

std::vector<double> integers_for(Dtype dtype, int64_t count, uint64_t seed) {
  return random_integers(count, seed, 0, dtype == Dtype::kBit ? 1 : 100);
}

}  // namespace

TEST_CASE("map: every pair of dtypes, awkward sizes, any number of threads") {
  for (const int threads : testing::thread_counts()) {
    Exec exec(kTestDevice, threads);
    for (const Dtype from : kAllDtypes)
      for (const Dtype to : kAllDtypes)
        for (const int64_t size : kSizes) {
          const Shape shape = vector_shape(size);
          const Buffer a(from, shape, integers_for(from, size, 1));
          const Buffer b(to, shape, integers_for(to, size, 2));
          Buffer sum(to, shape), less(from, shape);
          map(exec, SumAndLess{}, {sum, less}, {a, b});
          const std::vector<double> av = a.values(), bv = b.values(), sv = sum.values(),
                                    lv = less.values();
          int64_t wrong = 0;
          for (size_t i = 0; i < av.size(); ++i)
            wrong +=
                sv[i] != stored(to, av[i] + bv[i]) || lv[i] != static_cast<double>(av[i] < bv[i]);
          INFO(to_string(from) << " to " << to_string(to) << ", size " << size);
          CHECK(wrong == 0);
        }
  }
}

TEST_CASE("map: outputs may alias inputs") {
  Exec exec(kTestDevice, 2);
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat64, Dtype::kBit}) {
    const std::vector<double> av = integers_for(dtype, 1023, 1), bv = integers_for(dtype, 1023, 2);
    const Buffer a(dtype, vector_shape(1023), av), b(dtype, vector_shape(1023), bv);
    map(exec, SumAndLess{}, {a, b}, {a, b});
    int64_t wrong = 0;
    for (size_t i = 0; i < av.size(); ++i)
      wrong += a.values()[i] != stored(dtype, av[i] + bv[i]) ||
               b.values()[i] != static_cast<double>(av[i] < bv[i]);
    CHECK(wrong == 0);
  }
}

TEST_CASE("map: computes in double where a view is float64, and rounds once to bfloat16") {
  Exec exec(kTestDevice, 1);
  const std::vector<double> values = testing::random_vector(777, 4, -10, 10);
  const Buffer x(Dtype::kFloat64, vector_shape(777), values);
  const Buffer y(Dtype::kFloat64, vector_shape(777)), narrow(Dtype::kBFloat16, vector_shape(777));
  map(exec, Double{}, {y}, {x});
  map(exec, Double{}, {narrow}, {x});
  int64_t wrong = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const BFloat16 rounded = to_bfloat16(static_cast<float>(2 * values[i]));
    wrong += y.view().as<double>()[i] != 2 * values[i];
    wrong += narrow.view().as<BFloat16>()[i].bits != rounded.bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("map: views that do not match are refused with a sentence") {
  Exec exec(kTestDevice, 1);
  const Buffer x(Dtype::kFloat32, {1, 2, 2, 16}), longer(Dtype::kFloat32, {1, 2, 2, 32});
  const Buffer blocked(Dtype::kFloat32, {1, 2, 2, 16}, Layout::kBlocked16);
  CHECK_THROWS_WITH(map(exec, Double{}, {x}, {longer}), Catch::Contains("(1, 2, 2, 32)"));
  CHECK_THROWS_WITH(map(exec, Double{}, {x}, {blocked}), Catch::Contains("layout"));
}

namespace {

struct AddAndLess {  // {x + p, x < q}
  template <class S>
  HD Results<S, 2> operator()(S x, S p, S q) const {
    return {{x + p, S(x < q)}};
  }
};

void check_map_channels(Exec& exec, Dtype from, Dtype to, Shape shape, Layout layout) {
  const Buffer x(from, shape, integers_for(from, shape.count(), 1), layout);
  const Buffer p(Dtype::kFloat32, vector_shape(shape.c), random_integers(shape.c, 2, 0, 100));
  const Buffer q(Dtype::kUint8, vector_shape(shape.c), random_integers(shape.c, 3, 0, 100));
  const Buffer sum(to, shape, layout), less(Dtype::kBit, shape, layout);
  map_channels(exec, AddAndLess{}, {sum, less}, {x}, {p, q});
  const std::vector<double> xv = x.values(), pv = p.values(), qv = q.values();
  const std::vector<double> sv = sum.values(), lv = less.values();
  int64_t wrong = 0;
  for (size_t i = 0; i < xv.size(); ++i) {
    const size_t c = i % static_cast<size_t>(shape.c);
    wrong += sv[i] != stored(to, xv[i] + pv[c]) || lv[i] != static_cast<double>(xv[i] < qv[c]);
  }
  INFO(to_string(from) << " to " << to_string(to) << ", " << to_string(shape));
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("map_channels: channels last, any number of channels") {
  for (const int threads : testing::thread_counts()) {
    Exec exec(kTestDevice, threads);
    for (const int64_t channels : {1, 3, 5, 8, 10, 16, 48, 64, 65, 100, 600})
      for (const Shape& shape : {Shape{1, 1, 1, channels}, Shape{3, 5, 7, channels},
                                 Shape{2, 8, 8, channels}, Shape{0, 4, 4, channels}})
        for (const Dtype dtype : kAllDtypes) {
          check_map_channels(exec, dtype, Dtype::kFloat32, shape, Layout::kChannelsLast);
          check_map_channels(exec, Dtype::kBFloat16, dtype, shape, Layout::kChannelsLast);
        }
  }
}

TEST_CASE("map_channels: 16-channel blocks") {
  for (const int threads : testing::thread_counts()) {
    Exec exec(kTestDevice, threads);
    for (const int64_t channels : {16, 48, 64, 112})
      for (const Shape& shape : {Shape{1, 1, 1, channels}, Shape{3, 5, 7, channels},
                                 Shape{2, 8, 12, channels}, Shape{0, 4, 4, channels}})
        for (const Dtype dtype : kAllDtypes) {
          check_map_channels(exec, dtype, Dtype::kFloat32, shape, Layout::kBlocked16);
          check_map_channels(exec, Dtype::kBFloat16, dtype, shape, Layout::kBlocked16);
        }
  }
}

TEST_CASE("map_channels: one value per channel is demanded") {
  Exec exec(kTestDevice, 1);
  const Buffer x(Dtype::kFloat32, {1, 2, 2, 3}), p(Dtype::kFloat32, vector_shape(4));
  const Buffer less(Dtype::kBit, {1, 2, 2, 3});
  CHECK_THROWS_WITH(map_channels(exec, AddAndLess{}, {x, less}, {x}, {p, p}),
                    Catch::Contains("4 values for 3 channels"));
}

namespace {

struct TakeRandom {
  template <class S>
  HD S operator()(S, S u) const {
    return u;
  }
};

}  // namespace

TEST_CASE("map_random: element e of sample s is word e of (key, s), for any threads") {
  const RandomKey key{99, Purpose::kAttackStart, 4};
  for (const int threads : testing::thread_counts()) {
    Exec exec(kTestDevice, threads);
    for (const int64_t length : {1, 5, 511, 512, 513, 3072, 9001})
      for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat64}) {
        const testing::DeviceVector<int64_t> samples = {12, 3, 3, (int64_t{1} << 33) + 1};
        const Buffer x(dtype, {4, 1, 1, length},
                       std::vector<double>(static_cast<size_t>(4 * length)));
        const Buffer u(dtype, {4, 1, 1, length});
        map_random(exec, TakeRandom{}, key, samples.data(), u, {x});
        const std::vector<double> values = u.values();
        int64_t wrong = 0;
        for (size_t i = 0; i < values.size(); ++i) {
          const size_t row = i / static_cast<size_t>(length),
                       element = i % static_cast<size_t>(length);
          const uint32_t word =
              key.word(static_cast<uint64_t>(samples[row]), static_cast<uint32_t>(element));
          wrong += values[i] != static_cast<double>(uniform01(word));
        }
        CHECK(wrong == 0);
      }
  }
}

TEST_CASE("map_random: the split into batches does not matter, blocked views are refused") {
  Exec exec(kTestDevice, 2);
  const RandomKey key{5, Purpose::kTest, 0};
  const int64_t samples[] = {10, 11, 12, 13, 14};
  const Buffer together(Dtype::kFloat32, {5, 7, 7, 3}), apart(Dtype::kFloat32, {5, 7, 7, 3});
  map_random(exec, TakeRandom{}, key, samples, together, {together});
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 3}, {4, 1}}) {
    const View part = apart.view().samples(first, count);
    map_random(exec, TakeRandom{}, key, samples + first, part, {part});
  }
  CHECK((together.bytes() == apart.bytes()));
  const Buffer blocked(Dtype::kFloat32, {1, 2, 2, 16}, Layout::kBlocked16);
  CHECK_THROWS_AS(map_random(exec, TakeRandom{}, key, samples, blocked, {blocked}), Error);
}

}  // namespace ringfort
