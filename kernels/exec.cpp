#include "kernels/exec.h"

#include <omp.h>

#include <chrono>

#include "kernels/device_memory.h"
#include "kernels/onednn.h"
#include "kernels/plans.h"

namespace ringfort {

std::string to_string(const Device& device) {
  return device.kind == DeviceKind::kCpu ? "cpu" : fmt::format("cuda:{}", device.index);
}

std::string device_name(const Device& device) {
  return device.kind == DeviceKind::kCpu ? cpu_name() : cuda_device_name(device.index);
}

std::string library_version(const Device& device) {
  return device.kind == DeviceKind::kCpu ? onednn_version() : cuda_library_version();
}

Exec::Exec(Device device, int threads, const std::string& plan_file)
    : device_(device), threads_(threads) {
  if (device.kind == DeviceKind::kCuda && !device.planned) cuda_ = make_cuda_context(device.index);
  require(threads >= 0, "threads: {} asked for; give 1 or more, or 0 for all cores", threads);
  if (threads_ == 0) threads_ = omp_get_num_procs();
  omp_set_num_threads(threads_);
  plans_ = device.planned ? std::make_unique<PlanCache>("", "", "")
                          : std::make_unique<PlanCache>(plan_file, library_version(device),
                                                        device_name(device));
  onednn_ = std::make_unique<OneDnn>();
}

Exec::~Exec() = default;

void* Exec::scratch(int64_t bytes) {
  if (bytes <= scratch_.bytes) return scratch_.memory.get();
  if (on_cuda()) scratch_.retired.push_back(std::move(scratch_.memory));
  scratch_.memory.reset();  // on the CPU first give back: both together may not fit
  scratch_.bytes = 0;
  scratch_.memory = allocate_on(device_, bytes, "scratch for a kernel");
  scratch_.bytes = bytes;
  return scratch_.memory.get();
}

TrialScratch::~TrialScratch() {
  try {
    synchronize(exec_);
  } catch (const Error&) {  // whatever failed shows at the next call
  }
  std::swap(exec_.scratch_, kept_);
}

double seconds_per_call(Exec& exec, int calls, const std::function<void()>& call) {
  require(calls >= 1, "seconds_per_call: {} calls; at least one is needed", calls);
  if (exec.on_cuda()) return cuda::seconds_per_call(exec, calls, call);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) call();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return seconds.count() / calls;
}

}  // namespace ringfort
