// Copies of several arrays at once: every byte, of any length, and nothing behind it.
#include "kernels/copy_views.h"

#include <catch2/catch.hpp>

#include "tests/testing.h"

namespace ringfort {

using testing::Buffer;
using testing::random_vector;

TEST_CASE("copy_views: arrays of any dtype and length and more than one launch takes") {
  Exec exec(kTestDevice, 2);
  for (const size_t arrays : {0u, 1u, 3u, 16u, 17u, 40u}) {
    std::vector<Buffer> from, to;
    for (size_t k = 0; k < arrays; ++k) {
      const auto count = static_cast<int64_t>(k * k * 7 % 1100);  // 0 and odd ones among them
      const Dtype dtype = k % 3 == 0   ? Dtype::kFloat32
                          : k % 3 == 1 ? Dtype::kFloat64
                                       : Dtype::kBFloat16;
      from.emplace_back(dtype, vector_shape(count), random_vector(count, k + 1));
      to.emplace_back(dtype, vector_shape(count));
    }
    std::vector<ViewCopy> copies;
    for (size_t k = 0; k < arrays; ++k) copies.push_back({to[k], from[k]});
    copy_views(exec, copies);
    for (size_t k = 0; k < arrays; ++k) {
      INFO(k << " of " << arrays);
      CHECK((to[k].bytes() == from[k].bytes()));
    }
  }
}

TEST_CASE("copy_views: nothing is written behind the last element") {
  Exec exec(kTestDevice, 1);
  const Buffer from(Dtype::kUint8, vector_shape(37), std::vector<double>(37, 5));
  const Buffer to(Dtype::kUint8, vector_shape(64), std::vector<double>(64, 9));
  View start = to.view();
  start.shape = vector_shape(37);
  copy_views(exec, {{start, from}});
  std::vector<double> expected(64, 9);
  std::fill_n(expected.begin(), 37, 5.0);
  CHECK((to.values() == expected));
}

TEST_CASE("copy_views refuses what is not alike or not aligned") {
  Exec exec(kTestDevice, 1);
  const Buffer a(Dtype::kFloat32, vector_shape(8)), b(Dtype::kFloat32, vector_shape(7)),
      c(Dtype::kBFloat16, vector_shape(8));
  CHECK_THROWS_AS(copy_views(exec, {{a, b}}), Error);
  CHECK_THROWS_AS(copy_views(exec, {{a, c}}), Error);
  View shifted = a.view();
  shifted.data = shifted.as<float>() + 1;
  shifted.shape = vector_shape(7);
  CHECK_THROWS_WITH(copy_views(exec, {{shifted, b}}), Catch::Contains("16 bytes"));
}

}  // namespace ringfort
