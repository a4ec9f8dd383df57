#include "kernels/exec.h"

#include <omp.h>

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
  if (bytes <= scratch_bytes_) return scratch_.get();
  if (on_cuda()) retired_.push_back(std::move(scratch_));  // queued and recorded work still uses it
  scratch_.reset();  // on the CPU first give back: both together may not fit
  scratch_bytes_ = 0;
  scratch_ = allocate_on(device_, bytes, "scratch for a kernel");
  scratch_bytes_ = bytes;
  return scratch_.get();
}

}  // namespace ringfort
