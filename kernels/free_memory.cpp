// How much memory a device has left.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "kernels/device_memory.h"

namespace ringfort {
namespace {

// "MemAvailable:   16051340 kB": what Linux can hand out before it swaps.
std::optional<int64_t> available_host_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (int64_t kilobytes = 0; file >> key >> kilobytes && std::getline(file, unit);)
    if (key == "MemAvailable:") return kilobytes * 1024;
  return std::nullopt;
}

// What `ulimit -v` leaves to this process.
std::optional<int64_t> addresses_left() {
  rlimit limit{};
  int64_t pages = 0;
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
      !(std::ifstream("/proc/self/statm") >> pages))
    return std::nullopt;
  return std::max<int64_t>(static_cast<int64_t>(limit.rlim_cur) - pages * ::getpagesize(), 0);
}

}  // namespace

std::optional<int64_t> free_memory(Device device) {
  if (device.kind == DeviceKind::kCuda)
    return cuda_device_count() > 0 ? std::optional(cuda::free_memory()) : std::nullopt;
  const std::optional<int64_t> available = available_host_memory(), left = addresses_left();
  return available && left ? std::min(*available, *left) : left ? left : available;
}

}  // namespace ringfort
