#include "kernels/device_memory.h"

#include <cstring>

namespace ringfort {
namespace {

void move_bytes(Exec& exec, void* to, const void* from, int64_t bytes, CopyDirection direction) {
  if (bytes == 0 || exec.planned()) return;
  if (exec.on_cuda())
    cuda::copy(exec, to, from, bytes, direction);
  else
    std::memcpy(to, from, static_cast<size_t>(bytes));
}

}  // namespace

void ReleaseMemory::operator()(void* memory) const {
  if (device.planned)
    planned::release(memory);
  else if (device.kind == DeviceKind::kCuda)
    cuda::release(memory);
  else
    FreeMemory{}(memory);
}

DeviceMemory allocate_on(Device device, int64_t bytes, const char* purpose) {
  void* memory = device.planned                     ? planned::allocate()
                 : device.kind == DeviceKind::kCuda ? cuda::allocate(bytes, purpose)
                                                    : allocate_aligned(bytes, purpose).release();
  return {memory, ReleaseMemory{device}};
}

void require_copyable(const View& to, const View& from) {
  require(to.dtype == from.dtype && to.count() == from.count() && to.layout == from.layout,
          "copy: {} {} and {} {} differ", to_string(to.dtype), to_string(to.shape),
          to_string(from.dtype), to_string(from.shape));
}

void copy_view(Exec& exec, View to, View from) {
  require_copyable(to, from);
  move_bytes(exec, to.data, from.data, from.bytes(), CopyDirection::kWithin);
}

void to_device(Exec& exec, View to, const void* from) {
  move_bytes(exec, to.data, from, to.bytes(), CopyDirection::kToDevice);
}

void to_host(Exec& exec, void* to, View from) {
  if (exec.planned() && from.bytes() > 0) std::memset(to, 0, static_cast<size_t>(from.bytes()));
  move_bytes(exec, to, from.data, from.bytes(), CopyDirection::kToHost);
  synchronize(exec);
}

void clear(Exec& exec, View to) {
  if (to.bytes() == 0 || exec.planned()) return;
  if (exec.on_cuda())
    cuda::clear(exec, to.data, to.bytes());
  else
    std::memset(to.data, 0, static_cast<size_t>(to.bytes()));
}

void write_now(Device device, View to, const void* from) {
  if (to.bytes() == 0 || device.planned) return;
  if (device.kind == DeviceKind::kCuda)
    cuda::copy_now(to.data, from, to.bytes(), CopyDirection::kToDevice);
  else
    std::memcpy(to.data, from, static_cast<size_t>(to.bytes()));
}

void read_now(Device device, void* to, View from) {
  if (from.bytes() == 0) return;
  if (device.planned) {
    std::memset(to, 0, static_cast<size_t>(from.bytes()));
    return;
  }
  if (device.kind == DeviceKind::kCuda)
    cuda::copy_now(to, from.data, from.bytes(), CopyDirection::kToHost);
  else
    std::memcpy(to, from.data, static_cast<size_t>(from.bytes()));
}

void clear_now(Device device, View to) {
  if (to.bytes() == 0 || device.planned) return;
  if (device.kind == DeviceKind::kCuda)
    cuda::clear_now(to.data, to.bytes());
  else
    std::memset(to.data, 0, static_cast<size_t>(to.bytes()));
}

}  // namespace ringfort
