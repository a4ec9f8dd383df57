// Uploads beside the work that reads them, on emulated streams of which one is as late as CUDA
// allows: what one of them does not wait for shows as wrong bytes.
#include "kernels/upload.h"

#include <catch2/catch.hpp>
#include <memory>

#include "kernels/map.h"
#include "tests/emulation/cuda_runtime.h"
#include "tests/test_device.h"

namespace ringfort {
namespace {

struct AddOne {
  template <class S>
  HD S operator()(S x) const {
    return x + S(1);
  }
};

constexpr int64_t kCount = 100;

std::vector<float> numbers(int upload) {
  return std::vector<float>(kCount, static_cast<float>(10 * upload));
}

}  // namespace

TEST_CASE("emulation: uploads reach the work they are for, whichever stream is late") {
  for (const auto& [late_work, late_copies] :
       {std::pair{false, true}, {true, false}, {true, true}}) {
    INFO("late work " << late_work << ", late copies " << late_copies);
    emulation::set_late_streams(late_work);
    auto exec = std::make_unique<Exec>(kTestDevice, 1);
    emulation::set_late_streams(late_copies);
    auto uploader = std::make_unique<Uploader>(*exec, kCount * 4);
    emulation::set_late_streams(false);
    const DeviceMemory memory = allocate_on(kTestDevice, 6 * kCount * 4, "a test");
    const auto result = [&](int upload) {
      return View{static_cast<float*>(memory.get()) + upload * kCount, Dtype::kFloat32,
                  vector_shape(kCount), Layout::kChannelsLast};
    };
    std::vector<float> host;
    for (int upload = 0; upload < 6; ++upload) {
      host = numbers(upload);
      const void* there = uploader->upload(host.data(), kCount * 4);
      host.assign(kCount, -1.0f);  // the caller's memory is free again
      map(*exec, AddOne{}, {result(upload)},
          {View{const_cast<void*>(there), Dtype::kFloat32, vector_shape(kCount),
                Layout::kChannelsLast}});
    }
    for (int upload = 0; upload < 6; ++upload) {
      std::vector<float> got(kCount);
      to_host(*exec, got.data(), result(upload));
      CHECK(got == std::vector<float>(kCount, static_cast<float>(10 * upload + 1)));
    }
    CHECK_THROWS_WITH(uploader->upload(host.data(), kCount * 4 + 1),
                      Catch::Contains("401 bytes where at most 400 fit"));
    uploader.reset();
    exec.reset();
  }
}

}  // namespace ringfort
