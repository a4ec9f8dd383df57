// What a planned device has in place of memory: a line of the host's, so that every block has an
// address of its own, moved to where no program has memory, so that a touch is a crash and not a
// number.
#include "kernels/aligned.h"
#include "kernels/device_memory.h"

namespace ringfort::planned {
namespace {

constexpr auto kNowhere = uintptr_t{1} << 55;  // above what x86-64 and arm64 give to a program

void* flipped(void* memory) {
  return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(memory) ^ kNowhere);
}

}  // namespace

void* allocate() { return flipped(allocate_aligned(64, "a plan").release()); }

void release(void* memory) { FreeMemory{}(flipped(memory)); }

}  // namespace ringfort::planned
