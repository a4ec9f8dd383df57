// Stands in for CUDA's own <cuda_runtime.h> where kernels run on the CPU, under the sanitizers: the
// part of the runtime that Ringfort uses, and the execution model of a block. Threads are fibers; a
// warp's threads meet at shuffles and votes, a block's at __syncthreads, and nowhere else: a
// missing barrier shows, because warps run one after the other in between, first to last or last to
// first (emulation::set_order). Blocks run one after the other. Memory from cudaMalloc is poisoned
// while host code runs: touching it there is an error that the address sanitizer reports.
//
// It proves indexing, tails, barriers and alignment, not speed, and no race between warps that both
// orders happen to hide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
// Blocks run one after the other, so one copy serves all of them.
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_in = 1, unsigned y_in = 1, unsigned z_in = 1) : x(x_in), y(y_in), z(z_in) {}
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};

struct EmulatedStream;

namespace ringfort::emulation {

enum class Order { kForward, kReverse };  // of the warps of a block between two barriers
void set_order(Order order);

// Streams made from now on run what they are given when somebody waits for it and not before: the
// latest that CUDA may. Others run it at once. What streams do not wait for of each other shows
// where one of them is late.
void set_late_streams(bool late);

// Where the running fiber stands.
struct Place {
  dim3 thread, block, block_size, grid_size;
};
const Place& place();

void block_barrier();
// Every live thread of the warp contributes `size` bytes at `mine`; all see everyone's, 32 x size.
void warp_exchange(unsigned mask, const void* mine, size_t size, unsigned char* everyone);

void run_grid(dim3 grid, dim3 block, const std::function<void()>& thread);
// Runs the work, or records it where the stream is being captured. Device memory is open to it.
void submit(struct ::EmulatedStream* stream, std::function<void()> work, bool kernel = true);

}  // namespace ringfort::emulation

#define threadIdx (::ringfort::emulation::place().thread)
#define blockIdx (::ringfort::emulation::place().block)
#define blockDim (::ringfort::emulation::place().block_size)
#define gridDim (::ringfort::emulation::place().grid_size)

inline void __syncthreads() { ringfort::emulation::block_barrier(); }

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  T all[32];
  ringfort::emulation::warp_exchange(mask, &value, sizeof(T),
                                     reinterpret_cast<unsigned char*>(all));
  return all[(threadIdx.x % 32) ^ static_cast<unsigned>(lanes)];
}

inline unsigned __ballot_sync(unsigned mask, bool chosen) {
  unsigned char all[32];
  const auto mine = static_cast<unsigned char>(chosen);
  ringfort::emulation::warp_exchange(mask, &mine, 1, all);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane) ballot |= static_cast<unsigned>(all[lane]) << lane;
  return ballot;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

// --- the runtime ---

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901
};
const char* cudaGetErrorString(cudaError_t error);
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();

using cudaStream_t = struct EmulatedStream*;
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
inline constexpr unsigned cudaStreamNonBlocking = 1;

struct cudaDeviceProp {
  char name[256];
};
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
using cudaEvent_t = struct EmulatedEvent*;
inline constexpr unsigned cudaEventDisableTiming = 2;
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemset(void* to, int value, size_t bytes);
cudaError_t cudaDeviceSynchronize();
using cudaGraph_t = struct EmulatedGraph*;
using cudaGraphExec_t = struct EmulatedGraph*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
using cudaGraphNode_t = const struct EmulatedNode*;
enum cudaGraphNodeType { cudaGraphNodeTypeKernel = 0, cudaGraphNodeTypeMemcpy = 1 };
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count);
cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes);

// As CUDA's, in its order; the names there are taken by the macros above.
struct cudaLaunchConfig_t {
  dim3 grid, block;
  size_t shared_bytes;
  cudaStream_t stream;
  void* attributes;
  unsigned attribute_count;
};
cudaError_t check_launch(const cudaLaunchConfig_t& config);

template <class... Params, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Arguments&&... arguments) {
  if (const cudaError_t error = check_launch(*config); error != cudaSuccess) return error;
  const std::tuple<Params...> copies(std::forward<Arguments>(arguments)...);
  ringfort::emulation::submit(config->stream, [=, grid = config->grid, block = config->block] {
    ringfort::emulation::run_grid(grid, block, [&] { std::apply(kernel, copies); });
  });
  return cudaSuccess;
}
