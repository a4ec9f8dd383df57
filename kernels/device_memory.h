// Memory of a device, and the few ways in which bytes move between it and the host. On the CPU both
// are the same memory. Everything is queued in the order of the Exec's stream; only what the host
// reads afterwards (to_host) waits for it. On a planned device nothing moves, and the host reads
// zeros.
#pragma once

#include <optional>

#include "kernels/exec.h"
#include "kernels/view.h"

namespace ringfort {

// At least `bytes`, uninitialised, 64-byte aligned. Errors: out of memory, told with its purpose.
DeviceMemory allocate_on(Device device, int64_t bytes, const char* purpose);

// What can still be allocated, in bytes: of a CUDA device's memory, or what Linux calls available,
// within `ulimit -v`. For a planned device that of the one it stands in for. No value where it
// cannot be known.
std::optional<int64_t> free_memory(Device device);

// Same dtype and number of elements on both sides, dense, in the same order.
void require_copyable(const View& to, const View& from);
void copy_view(Exec& exec, View to, View from);         // within the device
void to_device(Exec& exec, View to, const void* from);  // from pageable host memory
void to_host(Exec& exec, void* to, View from);          // waits until it is there
void clear(Exec& exec, View to);                        // all bytes 0

// The same without an Exec, for what is done once: each waits for all work of the device, before
// and after.
void write_now(Device device, View to, const void* from);
void read_now(Device device, void* to, View from);
void clear_now(Device device, View to);

enum class CopyDirection { kToDevice, kToHost, kWithin };

// CUDA's side: exec_cuda.cu, or exec_no_cuda.cpp, which refuses.
namespace cuda {
void* allocate(int64_t bytes, const char* purpose);
void release(void* memory);
int64_t free_memory();  // bytes, of the current device
void copy(Exec& exec, void* to, const void* from, int64_t bytes, CopyDirection direction);
void clear(Exec& exec, void* to, int64_t bytes);
void copy_now(void* to, const void* from, int64_t bytes, CopyDirection direction);
void clear_now(void* to, int64_t bytes);
}  // namespace cuda

// A planned device's side: addresses with nothing behind them; whoever touches one crashes.
namespace planned {
void* allocate();
void release(void* memory);
}  // namespace planned

}  // namespace ringfort
