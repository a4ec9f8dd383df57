// The scheduler of the emulated CUDA device and its small runtime: see cuda_runtime.h.
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <vector>

#include "tests/emulation/cuda_runtime.h"

namespace ringfort::emulation {
namespace {

constexpr size_t kStackBytes = size_t{256} << 10;  // the sanitizers' frames are large
constexpr int kWarp = 32;

// kNew: has not begun. kReady: may go on where it waited.
enum class State { kNew, kReady, kAtWarp, kAtBlock, kDone };

struct Stack {
  Stack()
      : memory(::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (memory == MAP_FAILED) throw std::runtime_error("emulation: no memory for a fiber's stack");
  }
  ~Stack() { ::munmap(memory, kStackBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  void* memory;
};

// Runs threads one after the other; one that waits keeps its fiber until it goes on.
struct Fiber {
  ucontext_t context{};
  Stack stack;
  void* fake_stack = nullptr;  // the address sanitizer's, of this fiber while another runs
};

struct Thread {
  State state = State::kNew;
  Place place;
  Fiber* fiber = nullptr;                       // where it waits
  const unsigned char* contribution = nullptr;  // while at a warp's meeting point
  size_t contribution_bytes = 0;
  unsigned mask = 0;
  std::array<unsigned char, 32 * 16> gathered{};
};

// One at a time: the emulated device runs a kernel when it is launched, to its end.
class Scheduler {
 public:
  void run(dim3 grid, dim3 block, const std::function<void()>& kernel) {
    kernel_ = &kernel;
    threads_.resize(block.x * block.y * block.z);
    for (unsigned z = 0; z < grid.z; ++z)
      for (unsigned y = 0; y < grid.y; ++y)
        for (unsigned x = 0; x < grid.x; ++x) run_block({x, y, z}, grid, block);
    kernel_ = nullptr;
  }

  Thread& current() {
    if (current_ == nullptr) throw std::logic_error("emulation: device code runs on the host");
    return *current_;
  }

  // Leaves the current thread until the scheduler finds that everyone it waits for has come.
  void wait(State state) {
    Thread& self = current();
    self.state = state;
    self.fiber = running_;
    switch_to_scheduler(*running_);
    current_ = &self;
  }

  Order order = Order::kForward;

 private:
  void run_block(dim3 index, dim3 grid, dim3 block) {
    const auto count = static_cast<unsigned>(threads_.size());
    for (unsigned t = 0; t < count; ++t) {
      threads_[t].state = State::kNew;
      threads_[t].place = {
          {t % block.x, t / block.x % block.y, t / block.x / block.y}, index, block, grid};
    }
    const unsigned warps = (count + kWarp - 1) / kWarp;
    for (unsigned done = 0; done < count;) {
      for (unsigned i = 0; i < warps; ++i) run_warp(order == Order::kForward ? i : warps - 1 - i);
      done = 0;
      for (Thread& thread : threads_) {
        if (thread.state == State::kDone) ++done;
        if (thread.state == State::kAtBlock) thread.state = State::kReady;
      }
    }
  }

  // Until every thread of the warp has ended or waits for the block.
  void run_warp(unsigned warp) {
    const unsigned first = warp * kWarp,
                   end = std::min(first + kWarp, static_cast<unsigned>(threads_.size()));
    for (;;) {
      bool waiting = false;
      for (unsigned t = first; t < end; ++t) {
        if (threads_[t].state == State::kReady) {
          resume(*threads_[t].fiber, &threads_[t]);
        } else if (threads_[t].state == State::kNew) {
          next_new_ = t;
          end_new_ = end;
          if (idle_.empty()) make_fiber();
          Fiber* fiber = idle_.back();
          idle_.pop_back();
          resume(*fiber, nullptr);
        }
        waiting = waiting || threads_[t].state == State::kAtWarp;
      }
      if (!waiting) return;
      meet(first, end);
    }
  }

  // All threads that the mask names must have come: others make a real warp hang or read garbage.
  void meet(unsigned first, unsigned end) {
    unsigned present = 0;
    for (unsigned t = first; t < end; ++t)
      if (threads_[t].state == State::kAtWarp) present |= 1u << (t - first);
    for (unsigned t = first; t < end; ++t) {
      Thread& thread = threads_[t];
      if (thread.state != State::kAtWarp) continue;
      if (thread.mask != present) {
        std::fprintf(stderr,
                     "emulation: a warp meets with mask %08x, but the threads %08x have come\n",
                     thread.mask, present);
        std::_Exit(1);
      }
      for (unsigned from = first; from < end; ++from)
        if (threads_[from].state == State::kAtWarp)
          std::memcpy(thread.gathered.data() + (from - first) * thread.contribution_bytes,
                      threads_[from].contribution, thread.contribution_bytes);
    }
    for (unsigned t = first; t < end; ++t)
      if (threads_[t].state == State::kAtWarp) threads_[t].state = State::kReady;
  }

  void make_fiber() {
    Fiber& fiber = fibers_.emplace_back();
    ::getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.memory;
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    ::makecontext(&fiber.context, &Scheduler::enter, 0);
    idle_.push_back(&fiber);
  }

  // Runs the fiber until a thread of it waits or there is nothing more to begin.
  void resume(Fiber& fiber, Thread* thread) {
    running_ = &fiber;
    current_ = thread;
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, fiber.stack.memory, kStackBytes);
    ::swapcontext(&scheduler_, &fiber.context);
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
    current_ = nullptr;
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  void switch_to_scheduler(Fiber& fiber) {
    __sanitizer_start_switch_fiber(&fiber.fake_stack, scheduler_stack_, scheduler_bytes_);
    ::swapcontext(&fiber.context, &scheduler_);
    __sanitizer_finish_switch_fiber(fiber.fake_stack, &scheduler_stack_, &scheduler_bytes_);
  }

  static void enter();
  // A fiber's life: new threads of the warp at hand, one after the other.
  [[noreturn]] void work() {
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack_, &scheduler_bytes_);
    for (;;) {
      while (next_new_ < end_new_ && threads_[next_new_].state == State::kNew) {
        Thread& thread = threads_[next_new_++];
        current_ = &thread;
        try {
          (*kernel_)();
        } catch (...) {
          error_ = std::current_exception();
        }
        thread.state = State::kDone;
        if (thread.fiber != nullptr) {  // it has waited: others have begun meanwhile
          thread.fiber = nullptr;
          break;
        }
      }
      idle_.push_back(running_);
      switch_to_scheduler(*running_);
    }
  }

  std::vector<Thread> threads_;
  std::list<Fiber> fibers_;
  std::vector<Fiber*> idle_;
  Fiber* running_ = nullptr;
  Thread* current_ = nullptr;
  unsigned next_new_ = 0, end_new_ = 0;
  ucontext_t scheduler_{};
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_bytes_ = 0;
  const std::function<void()>* kernel_ = nullptr;
  std::exception_ptr error_;
};

Scheduler& scheduler() {
  static Scheduler one;
  static const bool ordered = [] {
    const char* order = std::getenv("RINGFORT_EMULATION_ORDER");
    if (order != nullptr && std::string(order) == "reverse") one.order = Order::kReverse;
    return true;
  }();
  static_cast<void>(ordered);
  return one;
}

void Scheduler::enter() { scheduler().work(); }

// --- device memory: out of bounds for host code ---

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

}  // namespace

void set_order(Order order) { scheduler().order = order; }

const Place& place() { return scheduler().current().place; }

void block_barrier() { scheduler().wait(State::kAtBlock); }

void warp_exchange(unsigned mask, const void* mine, size_t size, unsigned char* everyone) {
  Thread& self = scheduler().current();
  if (size > 16) throw std::logic_error("emulation: more than 16 bytes in a shuffle");
  self.contribution = static_cast<const unsigned char*>(mine);
  self.contribution_bytes = size;
  self.mask = mask;
  scheduler().wait(State::kAtWarp);
  std::memcpy(everyone, self.gathered.data(), 32 * size);
}

void run_grid(dim3 grid, dim3 block, const std::function<void()>& thread) {
  scheduler().run(grid, block, thread);
}

}  // namespace ringfort::emulation

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
  void wait() const {
    if (stream != nullptr) stream->run_until(number);
  }
};

namespace ringfort::emulation {
namespace {

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
                                              : "invalid argument";
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaSuccess                 ? "cudaSuccess"
         : error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
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
  if (stream->captured) return cudaErrorInvalidValue;  // as CUDA refuses it
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
  *event = {stream, stream->queued};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  event->wait();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  stream->add([recorded = *event] { recorded.wait(); });
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  // CUDA aligns to 256 bytes; what lies behind the last byte is the sanitizer's.
  if (::posix_memalign(memory, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  emulation::allocations()[*memory] = bytes;
  ASAN_POISON_MEMORY_REGION(*memory, bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  cudaDeviceSynchronize();  // as CUDA does
  const auto found = emulation::allocations().find(memory);
  if (found == emulation::allocations().end()) return cudaErrorInvalidValue;
  ASAN_UNPOISON_MEMORY_REGION(memory, found->second);
  emulation::allocations().erase(found);
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = std::malloc(bytes);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  emulation::page_locked()[*memory] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  if (memory == nullptr) return cudaSuccess;
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
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!stream->captured) return cudaErrorInvalidValue;
  *graph = stream->captured.release();
  return cudaSuccess;
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
  cudaDeviceSynchronize();
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  cudaDeviceSynchronize();
  return cudaMemsetAsync(to, value, bytes, nullptr);
}
cudaError_t cudaDeviceSynchronize() {
  for (EmulatedStream* stream : emulation::streams()) stream->finish();
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = *total_bytes = size_t{1} << 32;
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
