// The scheduler of the emulated CUDA device: see cuda_runtime.h. Its runtime is in runtime.cpp.
#include <sanitizer/common_interface_defs.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <memory>
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
    // The address sanitizer would clear the shadow of this stack at every switch: most of the time.
    fiber.context.uc_stack = {};
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
