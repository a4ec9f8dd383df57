// Exec: where work runs. Device, number of threads, scratch memory and the cached plans of the
// libraries: all that a kernel needs beside its views. Passed, never global. One Exec serves one
// thread of control at a time.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/aligned.h"
#include "kernels/view.h"

namespace ringfort {

enum class DeviceKind { kCpu, kCuda };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int index = 0;
  // Stands in for that device, which need not be there: memory is an address that nobody may touch,
  // and work on it returns at once. What a program would take is counted this way, without
  // taking or computing anything (adversarial/memory_plan.h).
  bool planned = false;
  friend bool operator==(const Device&, const Device&) = default;
};
std::string to_string(const Device& device);  // "cpu", "cuda:0"

// Owns memory of a device; released where it came from.
struct ReleaseMemory {
  Device device;
  void operator()(void* memory) const;
};
using DeviceMemory = std::unique_ptr<void, ReleaseMemory>;

class CudaContext;  // kernels/exec_cuda.h: stream and library handles
struct CudaContextDeleter {
  void operator()(CudaContext* context) const;
};
using CudaContextHandle = std::unique_ptr<CudaContext, CudaContextDeleter>;
// Errors: a build without CUDA, no device, a number that is not there.
CudaContextHandle make_cuda_context(int device_index);
int cuda_device_count();
std::string cuda_device_name(int index);  // "NVIDIA H200"
std::string cuda_library_version();       // "cuDNN 9.19.0"

// The chip, "AMD EPYC 9R14" or "NVIDIA H200", and the library whose implementations are chosen from
// on it, "oneDNN 2.6.3" or "cuDNN 9.19.0": what plans were measured with.
std::string device_name(const Device& device);
std::string library_version(const Device& device);

struct ConvProblem;  // kernels/conv2d_candidates.h
class PlanCache;  // kernels/plans.h: which implementation is the fastest for a shape, measured once
class OneDnn;     // kernels/onednn.h: engine, stream, primitives

class Exec {
 public:
  // threads: 0 takes all cores. plan_file: where chosen plans are kept between runs; "" keeps them
  // in memory only. Errors: a device this build has no backend for.
  explicit Exec(Device device = {}, int threads = 0, const std::string& plan_file = "");
  ~Exec();
  Exec(const Exec&) = delete;
  Exec& operator=(const Exec&) = delete;

  Device device() const { return device_; }
  bool planned() const { return device_.planned; }
  bool on_cuda() const { return cuda_ != nullptr; }  // a CUDA device, and not a planned one
  int threads() const { return threads_; }
  PlanCache& plans() { return *plans_; }
  OneDnn& onednn() { return *onednn_; }
  CudaContext& cuda() { return *cuda_; }  // REQUIRES: a CUDA device
  // Whether float32 products may round their operands to TF32 (11 bits) on a GPU's tensor cores;
  // off, float32 means float32. A CPU has no TF32.
  bool tf32() const { return tf32_; }
  void allow_tf32(bool allowed) { tf32_ = allowed; }
  // On a planned device: told of every convolution that it is asked for. For whoever wants to know
  // what a program will ask of a library.
  std::function<void(const ConvProblem&)> on_convolution;

  // Device scratch of at least `bytes`, 64-byte aligned, valid until the next call. It grows while
  // a program warms up and stays the same afterwards; kernels allocate nothing else.
  void* scratch(int64_t bytes);

 private:
  friend class TrialScratch;
  struct Scratch {
    DeviceMemory memory;
    int64_t bytes = 0;
    std::vector<DeviceMemory> retired;  // smaller ones that queued and recorded work still uses
  };

  Device device_;
  int threads_;
  std::unique_ptr<PlanCache> plans_;
  std::unique_ptr<OneDnn> onednn_;
  CudaContextHandle cuda_;
  bool tf32_ = false;
  Scratch scratch_;
};

// As long as it lives the Exec has other scratch memory, for what is only tried: plans that are not
// chosen may ask for gigabytes. Waits at its end, as work is queued that uses them.
class TrialScratch {
 public:
  explicit TrialScratch(Exec& exec) : exec_(exec) { std::swap(exec_.scratch_, kept_); }
  ~TrialScratch();
  TrialScratch(const TrialScratch&) = delete;
  TrialScratch& operator=(const TrialScratch&) = delete;

 private:
  Exec& exec_;
  Exec::Scratch kept_;
};

// Waits until all work queued so far is done; nothing to wait for on the CPU.
void synchronize(Exec& exec);

// Seconds that one of `calls` calls takes, queued back to back. On a GPU by its own clock and after
// one call that is not counted: what the host needs to queue a call then counts only where the GPU
// has to wait for it, as in a step.
double seconds_per_call(Exec& exec, int calls, const std::function<void()>& call);

namespace cuda {
double seconds_per_call(Exec& exec, int calls, const std::function<void()>& call);
}

}  // namespace ringfort
