// Reductions against long double with bounds derived from the order of additions, bit-identical for
// any number of threads; and the row launchers that share their row primitive.
#include "kernels/reduce.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cfloat>
#include <numeric>

#include "kernels/activation.h"
#include "kernels/rows.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;

struct SumAndProduct {  // {a, a b}
  template <class S>
  HD Results<S, 2> operator()(S a, S b) const {
    return {{a, a * b}};
  }
};

struct CentredProduct {  // {a - p, (a - p) b}
  template <class S>
  HD Results<S, 2> operator()(S a, S b, S p) const {
    return {{a - p, (a - p) * b}};
  }
};

struct Sums {
  std::vector<long double> sum, magnitude;
  explicit Sums(int64_t count)
      : sum(static_cast<size_t>(count)), magnitude(static_cast<size_t>(count)) {}
  void add(size_t at, double term) {
    sum[at] += static_cast<long double>(term);
    magnitude[at] += static_cast<long double>(std::abs(term));
  }
  // Every term is rounded at most twice, then up to `adds` terms are added in the compute scalar
  // before they go on in double: |error| <= (adds + 2) u sum|term|.
  bool holds(const std::vector<double>& got, int adds, bool float64) const {
    const long double u = float64 ? DBL_EPSILON : static_cast<long double>(FLT_EPSILON) / 2;
    bool within = got.size() == sum.size();
    for (size_t i = 0; within && i < got.size(); ++i) {
      const long double error = std::abs(static_cast<long double>(got[i]) - sum[i]);
      within = error <= (adds + 2) * u * magnitude[i];
    }
    return within;
  }
};

void check_row_reduce(Dtype dtype, int64_t rows, int64_t length) {
  const Shape shape{rows, 1, 1, length};
  const Buffer a(dtype, shape, random_vector(shape.count(), 1, -1, 2));
  const Buffer b(dtype, shape, random_vector(shape.count(), 2, 0, 1.9));
  const std::vector<double> av = a.values(), bv = b.values();
  Sums plain(rows), product(rows);
  for (size_t i = 0; i < av.size(); ++i) {
    const size_t row = i / static_cast<size_t>(length);
    plain.add(row, av[i]);
    product.add(row, av[i] * bv[i]);
  }
  testing::DeviceVector<std::byte> first_bytes;
  for (const int threads : testing::thread_counts()) {
    Exec exec(kTestDevice, threads);
    const Buffer sum(Dtype::kFloat64, vector_shape(rows)), dot(Dtype::kFloat64, vector_shape(rows));
    row_reduce(exec, SumAndProduct{}, {sum, dot}, {a, b});
    INFO(to_string(dtype) << " " << to_string(shape));
    // a lane adds 512 / 16 elements of a run
    CHECK(plain.holds(sum.values(), 32, dtype == Dtype::kFloat64));
    CHECK(product.holds(dot.values(), 32, dtype == Dtype::kFloat64));
    if (threads == 1) first_bytes = dot.bytes();
    CHECK((dot.bytes() == first_bytes));
  }
}

}  // namespace

TEST_CASE("row_reduce: every dtype and awkward sizes, within the bound of its order") {
  for (const int64_t length : {1, 15, 16, 17, 31, 33, 511, 512, 513, 1023, 20011})
    for (const Dtype dtype :
         {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat64, Dtype::kInt32, Dtype::kUint8})
      check_row_reduce(dtype, dtype == Dtype::kInt32 ? 1 : 3, length);
  check_row_reduce(Dtype::kFloat32, 300, 100);
  check_row_reduce(Dtype::kFloat32, 0, 5);
}

TEST_CASE("row_reduce: a million equal terms do not drift") {
  constexpr int64_t kCount = 1000000;
  const Buffer x(Dtype::kFloat32, {1, 1, 1, kCount}, std::vector<double>(kCount, 0.1));
  const Buffer sum(Dtype::kFloat64, vector_shape(1));
  Exec exec(kTestDevice, 2);
  row_reduce(exec, Copy{}, {sum}, {x});
  const double exact = kCount * static_cast<double>(0.1f);
  CHECK(testing::relative_error(sum.values()[0], exact) < 32 * FLT_EPSILON / 2);
}

namespace {

void check_channel_reduce(Dtype dtype, const Shape& shape, Layout layout) {
  const Buffer a(dtype, shape, random_vector(shape.count(), 1, 0, 1.9), layout);
  const Buffer b(dtype, shape, random_vector(shape.count(), 2, 0, 1.9), layout);
  const Buffer p(Dtype::kFloat32, vector_shape(shape.c), random_vector(shape.c, 3));
  const std::vector<double> av = a.values(), bv = b.values(), pv = p.values();
  Sums plain(shape.c), product(shape.c);
  for (size_t i = 0; i < av.size(); ++i) {
    const size_t c = i % static_cast<size_t>(shape.c);
    plain.add(c, av[i] - pv[c]);
    product.add(c, (av[i] - pv[c]) * bv[i]);
  }
  testing::DeviceVector<std::byte> first_bytes;
  for (const int threads : testing::thread_counts()) {
    Exec exec(kTestDevice, threads);
    const Buffer sum(Dtype::kFloat64, vector_shape(shape.c)),
        dot(Dtype::kFloat64, vector_shape(shape.c));
    channel_reduce(exec, CentredProduct{}, {sum, dot}, {a, b}, {p});
    INFO(to_string(dtype) << " " << to_string(shape));
    CHECK(plain.holds(sum.values(), 32, dtype == Dtype::kFloat64));
    CHECK(product.holds(dot.values(), 32, dtype == Dtype::kFloat64));
    if (threads == 1) first_bytes = dot.bytes();
    CHECK((dot.bytes() == first_bytes));
  }
}

}  // namespace

TEST_CASE("channel_reduce: channels last, any number of channels") {
  for (const int64_t channels : {1, 3, 5, 10, 15, 16, 17, 48, 100, 600})
    for (const Shape& shape : {Shape{1, 1, 1, channels}, Shape{3, 5, 7, channels},
                               Shape{5, 8, 9, channels}, Shape{0, 4, 4, channels}})
      for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat64, Dtype::kBit})
        check_channel_reduce(dtype, shape, Layout::kChannelsLast);
  check_channel_reduce(Dtype::kFloat32, {40, 31, 33, 3}, Layout::kChannelsLast);
}

TEST_CASE("channel_reduce: 16-channel blocks") {
  for (const int64_t channels : {16, 48, 112})
    for (const Shape& shape : {Shape{1, 1, 1, channels}, Shape{3, 5, 7, channels},
                               Shape{45, 4, 9, channels}, Shape{0, 4, 4, channels}})
      for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat64, Dtype::kBit})
        check_channel_reduce(dtype, shape, Layout::kBlocked16);
}

TEST_CASE("channel_reduce: beta 1 adds to what is there, beta 0 does not read it") {
  Exec exec(kTestDevice, 2);
  const Shape shape{3, 4, 5, 16};
  const std::vector<double> values = testing::random_integers(shape.count(), 5, -9, 9);
  std::vector<double> expected(16);
  for (size_t i = 0; i < values.size(); ++i) expected[i % 16] += values[i];
  for (const Layout layout : {Layout::kChannelsLast, Layout::kBlocked16}) {
    const Buffer dy(Dtype::kFloat32, shape, values, layout);
    const Buffer db(Dtype::kFloat32, vector_shape(16), std::vector<double>(16, NAN));
    bias_gradient(exec, db, dy, 0);
    CHECK((db.values() == expected));
    bias_gradient(exec, db, dy, 1);
    for (size_t c = 0; c < 16; ++c) CHECK(db.values()[c] == 2 * expected[c]);
  }
}

TEST_CASE("reductions refuse outputs of another length") {
  Exec exec(kTestDevice, 1);
  const Buffer x(Dtype::kFloat32, {2, 1, 1, 3}), out(Dtype::kFloat32, vector_shape(5));
  CHECK_THROWS_WITH(row_reduce(exec, Copy{}, {out}, {x}), Catch::Contains("5 sums for 2 samples"));
  CHECK_THROWS_WITH(channel_reduce(exec, Copy{}, {out}, {x}),
                    Catch::Contains("5 sums for 3 channels"));
}

namespace {

// What a row's context makes of integers, which any order of additions adds exactly.
struct ProbeRow {
  const double* values;  // (rows, n)
  int64_t n;
  double* results;   // (rows, 4): sum, max, argmax, threads that were the first
  int32_t* visits;   // (rows, n)
  double* uniforms;  // (rows, n)

  template <class Row>
  HD void operator()(const Row& row, int64_t r) const {
    const double* const v = values + r * n;
    int32_t* const visited = visits + r * n;
    double* const uniform = uniforms + r * n;
    const auto value = [v](int64_t i) { return v[i]; };
    const double sum = row.template sum<double>(n, value);
    const double max = row.template max<double>(n, value);
    const int64_t argmax = row.template argmax<double>(n, value);
    row.each(n, [visited](int64_t i) { ++visited[i]; });
    row.template each_uniform<double>(RandomKey{3, Purpose::kTest, 2}, static_cast<uint64_t>(r), n,
                                      [uniform](int64_t i, double u) { uniform[i] = u; });
    if (!row.first()) return;
    results[4 * r] = sum;
    results[4 * r + 1] = max;
    results[4 * r + 2] = static_cast<double>(argmax);
    results[4 * r + 3] += 1;
  }
};

struct Visit {
  int32_t* visits;
  HD void operator()(int64_t i) const { ++visits[i]; }
};

}  // namespace

TEST_CASE("for_each_row: sum, max, argmax, each, random numbers, every row once") {
  for (const int threads : testing::thread_counts())
    for (const int64_t n : {1, 15, 16, 17, 31, 33, 255, 257, 511, 1023}) {
      constexpr int64_t kRows = 5;
      Exec exec(kTestDevice, threads);
      std::vector<double> integers = testing::random_integers(kRows * n, 8, -50, 50);
      std::fill_n(integers.begin(), n, 7.0);  // all equal: the lowest index wins
      const testing::DeviceVector<double> values(integers.begin(), integers.end());
      testing::DeviceVector<double> results(4 * kRows), uniforms(values.size());
      testing::DeviceVector<int32_t> visits(values.size());
      for_each_row(exec, kRows, n,
                   ProbeRow{values.data(), n, results.data(), visits.data(), uniforms.data()});
      testing::settle();
      int64_t wrong = 0;
      for (int64_t r = 0; r < kRows; ++r) {
        const double *first = values.data() + r * n, *last = first + n;
        const double* largest = std::max_element(first, last);  // the first of equals
        const double* result = results.data() + 4 * r;
        wrong += result[0] != std::accumulate(first, last, 0.0);
        wrong += result[1] != *largest;
        wrong += result[2] != static_cast<double>(largest - first);
        wrong += result[3] != 1;
        for (int64_t i = 0; i < n; ++i) {
          const uint32_t word = RandomKey{3, Purpose::kTest, 2}.word(static_cast<uint64_t>(r),
                                                                     static_cast<uint32_t>(i));
          wrong += uniforms[static_cast<size_t>(r * n + i)] != static_cast<double>(uniform01(word));
        }
      }
      INFO("rows of " << n);
      CHECK(wrong == 0);
      CHECK(std::count(visits.begin(), visits.end(), 1) == kRows * n);
    }
}

TEST_CASE("for_each visits every index once") {
  for (const int threads : testing::thread_counts())
    for (const int64_t count : {0, 1, 17, 30000}) {
      Exec exec(kTestDevice, threads);
      testing::DeviceVector<int32_t> visits(static_cast<size_t>(count));
      for_each(exec, count, 1, Visit{visits.data()});
      testing::settle();
      CHECK(std::count(visits.begin(), visits.end(), 1) == count);
    }
}

}  // namespace ringfort
