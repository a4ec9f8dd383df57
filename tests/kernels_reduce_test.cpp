// Reductions against long double with bounds derived from the order of additions, bit-identical for
// any number of threads; and the row launchers that share their row primitive.
#include "kernels/reduce.h"

#include <catch2/catch.hpp>
#include <cfloat>

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
  std::vector<std::byte> first_bytes;
  for (const int threads : {1, 2, 3}) {
    Exec exec({}, threads);
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
  Exec exec({}, 2);
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
  std::vector<std::byte> first_bytes;
  for (const int threads : {1, 2, 3}) {
    Exec exec({}, threads);
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
  Exec exec({}, 2);
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
  Exec exec({}, 1);
  const Buffer x(Dtype::kFloat32, {2, 1, 1, 3}), out(Dtype::kFloat32, vector_shape(5));
  CHECK_THROWS_WITH(row_reduce(exec, Copy{}, {out}, {x}), Catch::Contains("5 sums for 2 samples"));
  CHECK_THROWS_WITH(channel_reduce(exec, Copy{}, {out}, {x}),
                    Catch::Contains("5 sums for 3 channels"));
}

TEST_CASE("CpuRow: sum, max, argmax and each") {
  const CpuRow row;
  for (const int64_t n : {1, 15, 16, 17, 31, 33, 511, 1023}) {
    const std::vector<double> values = testing::random_integers(n, 8, -50, 50);
    const auto value = [&](int64_t i) { return values[static_cast<size_t>(i)]; };
    double sum = 0;
    for (const double v : values) sum += v;
    const auto largest = std::max_element(values.begin(), values.end());  // the first of equals
    CHECK(row.sum<double>(n, value) == sum);
    CHECK(row.max<double>(n, value) == *largest);
    CHECK(row.argmax<double>(n, value) == largest - values.begin());
    std::vector<int> visits(static_cast<size_t>(n));
    row.each(n, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
    CHECK(std::count(visits.begin(), visits.end(), 1) == n);
  }
  CHECK(row.argmax<double>(5, [](int64_t) { return 1.0; }) == 0);
  CHECK(row.first());
}

TEST_CASE("for_each and for_each_row visit every index once") {
  for (const int threads : {1, 2, 3})
    for (const int64_t count : {0, 1, 17, 30000}) {
      Exec exec({}, threads);
      std::vector<int> visits(static_cast<size_t>(count)), rows(static_cast<size_t>(count));
      for_each(exec, count, 1, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
      for_each_row(exec, count, 1,
                   [&](const CpuRow&, int64_t n) { ++rows[static_cast<size_t>(n)]; });
      CHECK(std::count(visits.begin(), visits.end(), 1) == count);
      CHECK(std::count(rows.begin(), rows.end(), 1) == count);
    }
}

}  // namespace ringfort
