// NCCL with one rank, all that one GPU allows: a communicator is made over another transport,
// serves collectives that send nothing, and is ended in order.
#include <catch2/catch.hpp>

#include "distributed/comm.h"
#include "distributed/nccl_transport.h"
#include "distributed/thread_transport.h"
#include "tests/temp_folder.h"

namespace ringfort {
namespace {

TEST_CASE("nccl: a communicator of one rank is made, used and ended", "[nccl]") {
  if (!has_nccl()) {
    WARN("skipped: this build has no NCCL");
    return;
  }
  Exec exec({DeviceKind::kCuda, 0});
  for (int round = 0; round < 2; ++round) {
    auto transport = nccl_transport(std::move(thread_transports(1).front()), exec, 60);
    CHECK(transport->on_device());
    CHECK_THAT(transport->name(), Catch::StartsWith("NCCL 2.") && Catch::EndsWith(" and threads"));
    CHECK(transport->size() == 1);
    CHECK_THAT(test::error_of([&] { transport->send(0, Channel::kPayload, {}); }),
               Catch::Contains("rank 0 cannot exchange with rank 0"));
    Comm comm(std::move(transport));
    std::vector<double> values{1, 2};
    comm.sum(values, "a test");
    comm.barrier("a test");
    CHECK(values == std::vector<double>{1, 2});
  }
}

TEST_CASE("nccl: a rank on the CPU is refused", "[nccl][no-device]") {
  if (!has_nccl()) return;
  Exec exec({}, 1);
  CHECK_THAT(
      test::error_of([&] { nccl_transport(std::move(thread_transports(1).front()), exec, 1); }),
      Catch::Contains("needs a CUDA device"));
}

}  // namespace
}  // namespace ringfort
