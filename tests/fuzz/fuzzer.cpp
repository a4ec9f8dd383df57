// One target as a libFuzzer program.
#include <cstdlib>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const ringfort::test::FuzzTarget& target : ringfort::test::fuzz_targets())
    if (target.name == RINGFORT_FUZZ_TARGET) {
      target.run({data, size});
      return 0;
    }
  std::abort();  // there is no such target
}
