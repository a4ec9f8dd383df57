// The pool: blocks come back, are reused at the same address, and are counted.
#include "engine/memory.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "engine/tensor.h"

namespace ringfort {

TEST_CASE("A returned block is handed out again at the same address", "[memory]") {
  Pool pool;
  void* const first = pool.allocate(1000)->data();
  const int64_t reserved = pool.bytes_reserved();
  for (const int64_t bytes : {1000, 1024, 961, 900}) {  // up to a quarter smaller
    CHECK(pool.allocate(bytes)->data() == first);
    CHECK(pool.bytes_reserved() == reserved);
  }
  {  // two at a time cannot share
    const auto held = pool.allocate(1000), other = pool.allocate(1000);
    CHECK(held->data() == first);
    CHECK(other->data() != first);
    CHECK(pool.bytes_reserved() == 2 * reserved);
  }
  pool.allocate(500);  // much smaller and larger ones get their own
  pool.allocate(2000);
  CHECK(pool.bytes_reserved() == 2 * reserved + 512 + 2048);
}

TEST_CASE("A step repeated takes no new memory", "[memory]") {
  Pool pool;
  const auto step = [&] {
    const Tensor x(pool, {8, 4, 4, 3}, Dtype::kFloat32);
    std::vector<Tensor> kept;
    for (int64_t channels = 1; channels < 20; ++channels)
      kept.emplace_back(pool, Shape{8, 4, 4, channels}, Dtype::kBFloat16);
  };
  step();
  const int64_t reserved = pool.bytes_reserved();
  CHECK(reserved > 0);
  for (int i = 0; i < 3; ++i) step();
  CHECK(pool.bytes_reserved() == reserved);
  CHECK(pool.bytes_in_use() == 0);
}

TEST_CASE("The pool counts what is in use and its peak", "[memory]") {
  Pool pool;
  CHECK(pool.bytes_in_use() == 0);
  {
    const auto a = pool.allocate(64), b = pool.allocate(65);
    CHECK(b->bytes() == 128);  // whole cache lines
    CHECK(pool.bytes_in_use() == 64 + 128);
  }
  CHECK(pool.bytes_in_use() == 0);
  CHECK(pool.peak_bytes() == 64 + 128);
  const auto c = pool.allocate(64);
  pool.reset_peak();
  CHECK(pool.peak_bytes() == 64);
}

TEST_CASE("Blocks are aligned to cache lines, and an empty one is a block", "[memory]") {
  Pool pool;
  std::vector<std::shared_ptr<Block>> blocks;
  for (const int64_t bytes : {0, 1, 63, 64, 100, 5000}) {
    blocks.push_back(pool.allocate(bytes));
    CHECK(reinterpret_cast<uintptr_t>(blocks.back()->data()) % 64 == 0);
    CHECK(blocks.back()->bytes() >= std::max<int64_t>(bytes, 1));
  }
  CHECK_THROWS_WITH(pool.allocate(-1), Catch::Contains("-1 bytes"));
}

TEST_CASE("A tensor may outlive the pool it came from", "[memory]") {
  Tensor survivor;
  {
    Pool pool;
    survivor = Tensor(pool, vector_shape(100), Dtype::kFloat32);
  }
  std::memset(survivor.view().data, 1, 400);  // a sanitizer sees it if the memory is gone
  CHECK(survivor.as<unsigned char>()[399] == 1);
}

TEST_CASE("Copies of a tensor share its elements, parts of it too", "[memory]") {
  Pool pool;
  Tensor x(pool, {4, 1, 1, 3}, Dtype::kFloat32);
  CHECK(x.is_sole_owner());
  for (int i = 0; i < 12; ++i) x.as<float>()[i] = static_cast<float>(i);
  {
    const Tensor part = x.samples(1, 2), flat = x.reshaped(vector_shape(12));
    CHECK_FALSE(x.is_sole_owner());
    CHECK(part.shape() == Shape{2, 1, 1, 3});
    CHECK(part.as<float>()[0] == 3);
    part.as<float>()[5] = -1;
    CHECK(flat.as<float>()[8] == -1);
  }
  CHECK(x.is_sole_owner());
  CHECK_THROWS_WITH(x.samples(2, 3), Catch::Contains("[2, 5)"));
  CHECK_THROWS_WITH(x.reshaped(vector_shape(11)), Catch::Contains("number of elements"));
  CHECK_FALSE(static_cast<bool>(Tensor()));
}

}  // namespace ringfort
