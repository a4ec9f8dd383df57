// Where the kernel tests run. The same tests serve three executables: the CPU, the emulated CUDA
// device (tests/emulation) and, in a CUDA build, the real one, whose tests are skipped, and say so,
// where there is none.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/exec.h"

#ifdef RINGFORT_CUDA_TESTS
#include <cuda_runtime.h>
#endif

namespace ringfort {

#if defined(RINGFORT_CUDA_EMULATION) || defined(RINGFORT_CUDA_TESTS)
inline constexpr Device kTestDevice = {DeviceKind::kCuda, 0};
#else
inline constexpr Device kTestDevice = {};
#endif

namespace testing {

// Threads an Exec is tried with; they mean nothing to a CUDA device.
inline std::vector<int> thread_counts() {
  return kTestDevice.kind == DeviceKind::kCpu ? std::vector<int>{1, 2, 3} : std::vector<int>{1};
}

// Memory that both the test and the device may touch.
template <class T>
struct TestAllocator {
  using value_type = T;
  TestAllocator() = default;
  template <class U>
  TestAllocator(const TestAllocator<U>&) {}

#ifdef RINGFORT_CUDA_TESTS
  T* allocate(size_t count) {
    void* memory = nullptr;
    require(cudaMallocManaged(&memory, std::max<size_t>(count * sizeof(T), 1)) == cudaSuccess,
            "no managed memory for a test");
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t) { cudaFree(memory); }
#else
  T* allocate(size_t count) { return std::allocator<T>().allocate(count); }
  void deallocate(T* memory, size_t count) { std::allocator<T>().deallocate(memory, count); }
#endif
  friend bool operator==(const TestAllocator&, const TestAllocator&) { return true; }
};

template <class T>
using DeviceVector = std::vector<T, TestAllocator<T>>;

// Waits for the device, before the test looks at what it wrote.
inline void settle() {
#ifdef RINGFORT_CUDA_TESTS
  require(cudaDeviceSynchronize() == cudaSuccess, "a kernel failed: {}",
          cudaGetErrorString(cudaGetLastError()));
#endif
}

}  // namespace testing
}  // namespace ringfort
