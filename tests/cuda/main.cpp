// The kernel tests of a CUDA build. Without a device they are skipped, and ctest is told so; those
// tagged [no-device] ask NVIDIA's libraries and not a GPU, and run everywhere.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <cstdio>

#include "kernels/exec.h"

int main(int argc, char** argv) {
  constexpr int kSkipped = 4;  // SKIP_RETURN_CODE in cmake/tests.cmake
  Catch::Session session;
  if (const int error = session.applyCommandLine(argc, argv); error != 0) return error;
  const std::vector<std::string>& asked = session.configData().testsOrTags;
  const bool needs_none = asked.size() == 1 && asked[0] == "[no-device]";
  if (!needs_none && ringfort::cuda_device_count() == 0) {
    std::puts("skipped: no CUDA device");
    return kSkipped;
  }
  return session.run();
}
