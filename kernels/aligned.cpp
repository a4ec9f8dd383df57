#include "kernels/aligned.h"

#include <sys/mman.h>

#include "kernels/error.h"

namespace ringfort {

AlignedMemory allocate_aligned(int64_t bytes, const char* purpose) {
  constexpr int64_t kHugePage = int64_t{2} << 20;
  const int64_t alignment = bytes >= kHugePage ? kHugePage : 64;
  const auto size = static_cast<size_t>((bytes + alignment - 1) / alignment * alignment);
  AlignedMemory memory(std::aligned_alloc(static_cast<size_t>(alignment), size));
  if (memory == nullptr && size > 0)
    throw OutOfMemory(fmt::format("out of memory: {} MiB of {}", size >> 20, purpose));
  if (alignment == kHugePage)
    madvise(memory.get(), size, MADV_HUGEPAGE);  // advice: refusal does no harm
  return memory;
}

}  // namespace ringfort
