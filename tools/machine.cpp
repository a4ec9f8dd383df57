#include "tools/machine.h"

#include <omp.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "kernels/error.h"

namespace ringfort {
namespace {

Device parse_device(const std::string& name) {
  if (name == "cpu") return {DeviceKind::kCpu, 0};
  if (name == "auto") return {cuda_device_count() > 0 ? DeviceKind::kCuda : DeviceKind::kCpu, 0};
  if (name == "cuda") return {DeviceKind::kCuda, 0};
  int index = -1;
  const std::string prefix = "cuda:";
  if (name.starts_with(prefix)) {
    const auto [end, error] =
        std::from_chars(name.data() + prefix.size(), name.data() + name.size(), index);
    if (error != std::errc() || end != name.data() + name.size()) index = -1;
  }
  require(index >= 0, "--device: there is no device '{}'; write auto, cpu, cuda or cuda:0", name);
  return {DeviceKind::kCuda, index};
}

}  // namespace

std::filesystem::path plan_file(const Device& device) {
  std::filesystem::path cache;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg != '\0')
    cache = xdg;
  else if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    cache = std::filesystem::path(home) / ".cache";
  else
    return {};
  std::error_code ignored;  // an unwritable cache costs time, not the run
  std::filesystem::create_directories(cache / "ringfort", ignored);
  return cache / "ringfort" / (device.kind == DeviceKind::kCpu ? "plans.json" : "plans-cuda.json");
}

std::unique_ptr<Exec> open_exec(const std::string& device, int threads) {
  // Threads wait for each other in every kernel; many more than cores make no progress to speak of.
  const int most = std::max(8, 4 * omp_get_num_procs());
  require(threads <= most,
          "--threads: {} are far more than this machine's {} cores; give at most {}, or 0 for all "
          "cores",
          threads, omp_get_num_procs(), most);
  const Device parsed = parse_device(device);
  return std::make_unique<Exec>(parsed, threads, plan_file(parsed).string());
}

}  // namespace ringfort
