// Launchers over segments of flat buffers against plain loops: any lengths and gaps.
#include "kernels/segments.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "kernels/update.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;
using testing::relative_error;

// (x, factor) -> {x factor, x + factor}
struct ProductAndSum {
  template <class S>
  HD Results<S, 2> operator()(S x, S factor) const {
    return {{x * factor, x + factor}};
  }
};

const std::vector<int64_t> kLengths = {0, 1, 31, 33, 1023, 8191, 8192, 8193, 20011, 16384, 0, 7};

// Segments of kLengths, the last first, `gap` elements and some between them; the end of the last.
std::pair<std::vector<SegmentPart>, int64_t> laid_out(int64_t gap) {
  std::vector<SegmentPart> segments;
  int64_t total = gap;
  for (const int64_t length : kLengths) {
    segments.push_back({total, total + length});
    total += (length + 15) / 16 * 16 + gap;
  }
  std::reverse(segments.begin(), segments.end());  // their order is the caller's
  return {segments, total};
}

}  // namespace

TEST_CASE("segment squares: any lengths, gaps, none, the same for any number of threads") {
  for (const int64_t gap : {0, 5, 16})  // parts that do and do not start on 16 bytes
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat64}) {
      const auto [segments, total] = laid_out(gap);
      const Buffer flat(dtype, vector_shape(total), random_vector(total, 1));
      const std::vector<double> values = flat.values();
      const SegmentTable table(kTestDevice, segments);
      const Buffer squares(Dtype::kFloat64, vector_shape(table.segments()));
      std::vector<double> first;
      for (const int threads : testing::thread_counts()) {
        Exec exec(kTestDevice, threads);
        segment_squares(exec, squares, flat, table);
        if (first.empty()) first = squares.values();
        CHECK((squares.values() == first));
      }
      for (size_t s = 0; s < segments.size(); ++s) {
        double expected = 0;
        for (int64_t i = segments[s].first; i < segments[s].last; ++i)
          expected += values[static_cast<size_t>(i)] * values[static_cast<size_t>(i)];
        CHECK(relative_error(first[s], expected) < (dtype == Dtype::kFloat64 ? 1e-13 : 1e-6));
      }
    }
  Exec exec(kTestDevice, 1);
  const SegmentTable none(kTestDevice, {});
  const Buffer flat(Dtype::kFloat32, vector_shape(8), random_vector(8, 1));
  const Buffer one(Dtype::kFloat32, vector_shape(1));
  CHECK_THROWS_WITH(segment_squares(exec, one, flat, none),
                    Catch::Contains("1 numbers for 0 segments"));
  CHECK_THROWS_WITH(SegmentTable(kTestDevice, {{3, 1}}), Catch::Contains("from 3 to 1"));
}

TEST_CASE(
    "segment_map and sums of several: each element with its segment's number, gaps as before") {
  for (const int64_t gap : {0, 5, 16})
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat64}) {
      const auto [segments, total] = laid_out(gap);
      const SegmentTable table(kTestDevice, segments);
      const auto count = static_cast<int64_t>(segments.size());
      const Buffer x(dtype, vector_shape(total), random_vector(total, 1));
      const Buffer factors(Dtype::kFloat64, vector_shape(count), random_vector(count, 2));
      const std::vector<double> values = x.values(),
                                numbers = testing::rounded_to(dtype, factors.values());
      const std::vector<double> before = random_vector(total, 3);
      const Buffer product(dtype, vector_shape(total), before),
          sum(dtype, vector_shape(total), before);
      const Buffer products(Dtype::kFloat64, vector_shape(count)),
          sums(Dtype::kFloat64, vector_shape(count));
      std::vector<double> expected[2] = {product.values(), sum.values()};
      std::vector<double> totals[2] = {std::vector<double>(numbers.size()),
                                       std::vector<double>(numbers.size())};
      for (size_t s = 0; s < segments.size(); ++s)
        for (int64_t i = segments[s].first; i < segments[s].last; ++i) {
          const auto at = static_cast<size_t>(i);
          expected[0][at] = values[at] * numbers[s];
          expected[1][at] = values[at] + numbers[s];
          totals[0][s] += expected[0][at];
          totals[1][s] += expected[1][at];
        }
      for (const int threads : testing::thread_counts()) {
        Exec exec(kTestDevice, threads);
        segment_map(exec, ProductAndSum{}, std::array{product.view(), sum.view()}, table,
                    std::array{x.view()}, std::array{factors.view()});
        segment_reduce(exec, ProductAndSum{}, std::array{products.view(), sums.view()}, table,
                       std::array{x.view()}, std::array{factors.view()});
        CHECK((product.values() == testing::rounded_to(dtype, expected[0])));
        CHECK((sum.values() == testing::rounded_to(dtype, expected[1])));
        const double tolerance = dtype == Dtype::kFloat64 ? 1e-13 : 1e-6;
        CHECK(relative_error(products.values(), totals[0]) < tolerance);
        CHECK(relative_error(sums.values(), totals[1]) < tolerance);
      }
    }
}

}  // namespace ringfort
