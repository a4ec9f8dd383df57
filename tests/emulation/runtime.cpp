// The small runtime of the emulated CUDA device: memory, streams, events, graphs. See
// cuda_runtime.h.
#include <sanitizer/asan_interface.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "tests/emulation/cuda_runtime.h"

namespace emulation = ringfort::emulation;

struct EmulatedNode {
  bool kernel;
  std::function<void()> work;
};
struct EmulatedGraph {
  std::vector<EmulatedNode> nodes;
};
struct EmulatedStream {
  std::unique_ptr<EmulatedGraph> captured;  // while a capture goes on
  bool spoilt = false;                      // by a call that a capture does not allow
  bool late = false;
  std::deque<std::function<void()>> queue;  // of a late stream
  int64_t queued = 0, done = 0;

  void add(std::function<void()> work) {
    if (!late) return work();
    queue.push_back(std::move(work));
    ++queued;
  }
  void run_until(int64_t number) {
    while (done < number) {
      const std::function<void()> work = std::move(queue.front());
      queue.pop_front();
      ++done;
      work();
    }
  }
  void finish() { run_until(queued); }
};

// The work that a stream had been given when the event was recorded.
struct EmulatedEvent {
  EmulatedStream* stream = nullptr;
  int64_t number = 0;
  std::shared_ptr<std::chrono::steady_clock::time_point> when = {};  // the stream came to it
  void wait() const {
    if (stream != nullptr) stream->run_until(number);
  }
};

namespace ringfort::emulation {
namespace {

// A thread that captures must not wait, allocate or release; CUDA refuses that in the mode
// cudaStreamCaptureModeThreadLocal, and the capture is lost.
thread_local EmulatedStream* capturing = nullptr;

bool spoils_capture() {
  if (capturing != nullptr) capturing->spoilt = true;
  return capturing != nullptr;
}

// --- device memory: out of bounds for host code ---

constexpr size_t kMemory = size_t{1}
                           << 32;  // what the device says it has; no single block is larger

std::map<void*, size_t>& allocations() {
  static std::map<void*, size_t> all;
  return all;
}

// Device memory is open while a kernel or a copy runs.
class Open {
 public:
  Open() {
    for (const auto& [memory, bytes] : allocations()) ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
  }
  ~Open() {
    for (const auto& [memory, bytes] : allocations()) ASAN_POISON_MEMORY_REGION(memory, bytes);
  }
  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;
};

bool late_streams = false;
std::set<EmulatedStream*>& streams() {
  static std::set<EmulatedStream*> all;
  return all;
}
std::map<void*, size_t>& page_locked() {
  static std::map<void*, size_t> all;
  return all;
}
bool is_page_locked(const void* memory) {
  const auto* at = static_cast<const std::byte*>(memory);
  for (const auto& [first, bytes] : page_locked())
    if (at >= first && at < static_cast<std::byte*>(first) + bytes) return true;
  return false;
}

}  // namespace

void set_late_streams(bool late) { late_streams = late; }

}  // namespace ringfort::emulation

void emulation::submit(EmulatedStream* stream, std::function<void()> work, bool kernel) {
  if (stream != nullptr && stream->captured) {
    stream->captured->nodes.push_back({kernel, std::move(work)});
    return;
  }
  const auto run = [work = std::move(work)] {
    const Open open;
    work();
  };
  if (stream != nullptr)
    stream->add(run);
  else
    run();
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess                 ? "no error"
         : error == cudaErrorMemoryAllocation ? "out of memory"
         : error == cudaErrorStreamCaptureUnsupported
             ? "operation not permitted when stream is capturing"
         : error == cudaErrorStreamCaptureInvalidated
             ? "operation failed due to a previous error during capture"
             : "invalid argument";
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaSuccess                         ? "cudaSuccess"
         : error == cudaErrorMemoryAllocation         ? "cudaErrorMemoryAllocation"
         : error == cudaErrorStreamCaptureUnsupported ? "cudaErrorStreamCaptureUnsupported"
         : error == cudaErrorStreamCaptureInvalidated ? "cudaErrorStreamCaptureInvalidated"
                                                      : "cudaErrorInvalidValue";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "an emulated GPU");
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new EmulatedStream;
  (*stream)->late = emulation::late_streams;
  emulation::streams().insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  stream->finish();
  emulation::streams().erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (emulation::spoils_capture()) return cudaErrorStreamCaptureUnsupported;
  stream->finish();
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EmulatedEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  auto when = std::make_shared<std::chrono::steady_clock::time_point>();
  stream->add([when] { *when = std::chrono::steady_clock::now(); });
  *event = {stream, stream->queued, when};
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!start->when || !end->when) return cudaErrorInvalidValue;
  *milliseconds = std::chrono::duration<float, std::milli>(*end->when - *start->when).count();
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (emulation::spoils_capture()) return cudaErrorStreamCaptureUnsupported;
  event->wait();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  stream->add([recorded = *event] { recorded.wait(); });
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = nullptr;
  if (emulation::spoils_capture()) return cudaErrorStreamCaptureUnsupported;
  if (bytes == 0) return cudaSuccess;
  if (bytes > emulation::kMemory) return cudaErrorMemoryAllocation;
  // CUDA aligns to 256 bytes; what lies behind the last byte is the sanitizer's.
  if (::posix_memalign(memory, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  emulation::allocations()[*memory] = bytes;
  ASAN_POISON_MEMORY_REGION(*memory, bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (emulation::spoils_capture()) return cudaErrorStreamCaptureUnsupported;
  cudaDeviceSynchronize();  // as CUDA does
  const auto found = emulation::allocations().find(memory);
  if (found == emulation::allocations().end()) return cudaErrorInvalidValue;
  ASAN_UNPOISON_MEMORY_REGION(memory, found->second);
  emulation::allocations().erase(found);
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = nullptr;
  if (emulation::spoils_capture()) return cudaErrorStreamCaptureUnsupported;
  *memory = std::malloc(bytes);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  emulation::page_locked()[*memory] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (emulation::spoils_capture()) return cudaErrorStreamCaptureUnsupported;
  cudaDeviceSynchronize();
  if (emulation::page_locked().erase(memory) == 0) return cudaErrorInvalidValue;
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (stream != nullptr && stream->late && !stream->captured) {
    // Ordinary host memory is read before the call returns, and written before it returns;
    // page-locked memory when the copy is done.
    if (kind == cudaMemcpyHostToDevice && !emulation::is_page_locked(from)) {
      const auto* first = static_cast<const std::byte*>(from);
      emulation::submit(
          stream,
          [=, copy = std::vector<std::byte>(first, first + bytes)] {
            std::memcpy(to, copy.data(), bytes);
          },
          false);
      return cudaSuccess;
    }
  }
  emulation::submit(
      stream, [=] { std::memcpy(to, from, bytes); }, false);
  if (stream != nullptr && stream->late && !stream->captured && kind == cudaMemcpyDeviceToHost &&
      !emulation::is_page_locked(to))
    stream->finish();
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  emulation::submit(
      stream, [=] { std::memset(to, value, bytes); }, false);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->captured) return cudaErrorInvalidValue;
  stream->captured = std::make_unique<EmulatedGraph>();
  stream->spoilt = false;
  emulation::capturing = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!stream->captured) return cudaErrorInvalidValue;
  emulation::capturing = nullptr;
  const std::unique_ptr<EmulatedGraph> captured = std::move(stream->captured);
  *graph = stream->spoilt ? nullptr : new EmulatedGraph(*captured);
  return stream->spoilt ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes != nullptr)
    for (size_t i = 0; i < *count; ++i) nodes[i] = &graph->nodes.at(i);
  *count = graph->nodes.size();
  return cudaSuccess;
}
cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  *type = node->kernel ? cudaGraphNodeTypeKernel : cudaGraphNodeTypeMemcpy;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new EmulatedGraph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const EmulatedNode& node : executable->nodes)
    emulation::submit(stream, node.work, node.kernel);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return cudaGraphDestroy(executable);
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (emulation::spoils_capture()) return cudaErrorStreamCaptureUnsupported;
  cudaDeviceSynchronize();
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  if (emulation::spoils_capture()) return cudaErrorStreamCaptureUnsupported;
  cudaDeviceSynchronize();
  return cudaMemsetAsync(to, value, bytes, nullptr);
}
cudaError_t cudaDeviceSynchronize() {
  if (emulation::spoils_capture()) return cudaErrorStreamCaptureUnsupported;
  for (EmulatedStream* stream : emulation::streams()) stream->finish();
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = *total_bytes = emulation::kMemory;
  return cudaSuccess;
}

cudaError_t check_launch(const cudaLaunchConfig_t& config) {
  const auto in = [](dim3 d, unsigned x, unsigned yz) {
    return d.x >= 1 && d.y >= 1 && d.z >= 1 && d.x <= x && d.y <= yz && d.z <= yz;
  };
  const bool fits = in(config.grid, 0x7FFFFFFFu, 65535) && in(config.block, 1024, 1024) &&
                    config.block.x * config.block.y * config.block.z <= 1024;
  return fits ? cudaSuccess : cudaErrorInvalidValue;
}
