// Host memory for tensors, scratch and prepared filters: 64-byte aligned, on huge pages where it is
// large, because a convolution walks all of it and would spend its time in TLB misses.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

namespace ringfort {

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};
using AlignedMemory = std::unique_ptr<void, FreeMemory>;

// At least `bytes`, uninitialised. Errors: out of memory, told with what it was for.
AlignedMemory allocate_aligned(int64_t bytes, const char* purpose);

}  // namespace ringfort
