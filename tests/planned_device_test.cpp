// The planned device: memory that is counted and never touched, work that returns at once.
#include <catch2/catch.hpp>

#include "engine/transfer.h"
#include "kernels/activation.h"

namespace ringfort {

TEST_CASE("A planned device has addresses, and zeros for who reads them", "[memory]") {
  for (const DeviceKind kind : {DeviceKind::kCpu, DeviceKind::kCuda}) {
    Exec exec({.kind = kind, .planned = true});
    CHECK_FALSE(exec.on_cuda());
    Pool pool(exec.device());
    const std::vector<float> ones(1000, 1);
    const Tensor a = to_tensor<float>(exec, pool, vector_shape(1000), ones);
    const Tensor b(pool, vector_shape(int64_t{1} << 40), Dtype::kFloat32);  // more than there is
    CHECK(a.view().data != b.view().data);
    for (const Tensor& tensor : {a, b})
      CHECK(reinterpret_cast<uintptr_t>(tensor.view().data) % 64 == 0);
    CHECK(pool.bytes_in_use() == 4032 + (int64_t{4} << 40));
    clear(exec, b);
    add(exec, b, b, b);
    CHECK(to_vector<float>(exec, a) == std::vector<float>(1000, 0));
  }
}

TEST_CASE("Out of memory says what it was for and what helps", "[memory]") {
  const OutOfMemory error("out of memory: 5 MiB of a tensor");
  CHECK(error.what() == std::string("out of memory: 5 MiB of a tensor; use a smaller batch"));
  CHECK(error.cause() == "out of memory: 5 MiB of a tensor");
}

}  // namespace ringfort
