// The planned device: memory that is counted and never touched, work that returns at once.
#include <catch2/catch.hpp>

#include "engine/transfer.h"
#include "kernels/activation.h"
#include "kernels/conv2d.h"
#include "kernels/conv2d_candidates.h"

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

TEST_CASE("A planned device tells which convolutions it is asked for", "[memory]") {
  Exec exec({.kind = DeviceKind::kCuda, .planned = true});
  Pool pool(exec.device());
  const Tensor x(pool, {4, 8, 8, 16}, Dtype::kBFloat16), w(pool, {32, 3, 3, 16}, Dtype::kBFloat16),
      y(pool, {4, 4, 4, 32}, Dtype::kBFloat16), dw(pool, {32, 3, 3, 16}, Dtype::kFloat32),
      mask(pool, {4, 4, 4, 32}, Dtype::kBit);
  const ConvOptions options{2, 1};
  const auto all = [&] {
    conv2d_forward(exec, y, x, {w}, options, {.mask = &mask.view()});
    conv2d_dgrad(exec, x, y, {w}, options);
    conv2d_wgrad(exec, dw, x, y, options, 1);
  };
  all();  // nobody listens
  std::vector<std::string> told;
  exec.on_convolution = [&](const ConvProblem& problem) { told.push_back(problem.text()); };
  all();
  const std::string shape = " bfloat16 n4 h8 w8 c16 -> o32 k3 s2 p1 channels_last";
  REQUIRE(told.size() == 3);
  CHECK_THAT(told[0], Catch::StartsWith("forward" + shape + " mask"));
  CHECK_THAT(told[1], Catch::StartsWith("dgrad" + shape));
  CHECK_THAT(told[2], Catch::StartsWith("wgrad" + shape + " accumulate"));
}

TEST_CASE("Out of memory says what it was for and what helps", "[memory]") {
  const OutOfMemory error("out of memory: 5 MiB of a tensor");
  CHECK(error.what() == std::string("out of memory: 5 MiB of a tensor; use a smaller batch"));
  CHECK(error.cause() == "out of memory: 5 MiB of a tensor");
}

}  // namespace ringfort
