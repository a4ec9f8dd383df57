#include "kernels/exec.h"

#include <omp.h>
#include <sys/mman.h>

#include <cstdlib>

#include "kernels/onednn.h"
#include "kernels/plans.h"

namespace ringfort {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

}  // namespace

void Exec::FreeAligned::operator()(void* memory) const { std::free(memory); }

Exec::Exec(Device device, int threads, const std::string& plan_file) : device_(device), threads_(threads) {
  require(device.kind == DeviceKind::kCpu, "this build of Ringfort has no CUDA backend; use --device cpu");
  require(threads >= 0, "threads: {} asked for; give 1 or more, or 0 for all cores", threads);
  if (threads_ == 0) threads_ = omp_get_num_procs();
  omp_set_num_threads(threads_);
  plans_ = std::make_unique<PlanCache>(plan_file, onednn_version(), cpu_name());
  onednn_ = std::make_unique<OneDnn>();
}

Exec::~Exec() = default;

void* Exec::scratch(int64_t bytes) {
  if (bytes <= scratch_bytes_) return scratch_.get();
  // Large scratch is walked once per convolution: huge pages spare it the TLB misses.
  const int64_t alignment = bytes >= kHugePage ? kHugePage : 64;
  const int64_t size = (bytes + alignment - 1) / alignment * alignment;
  scratch_.reset();  // first give back: both together may not fit
  scratch_bytes_ = 0;
  scratch_.reset(std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(size)));
  require(scratch_ != nullptr, "out of memory: {} MiB of scratch for a kernel; use a smaller batch", size >> 20);
  if (alignment == kHugePage) madvise(scratch_.get(), static_cast<size_t>(size), MADV_HUGEPAGE);
  scratch_bytes_ = size;
  return scratch_.get();
}

}  // namespace ringfort
