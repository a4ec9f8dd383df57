#include "engine/state_file.h"

#include "kernels/device_memory.h"

namespace ringfort {
namespace {

const char* dtype_name(const NamedView& named) {
  switch (named.view.dtype) {
    case Dtype::kFloat32:
      return "F32";
    case Dtype::kFloat64:
      return "F64";
    case Dtype::kInt64:
      return "I64";
    default:
      fail("state file: '{}' is {}; float32, float64 and int64 are saved", named.name,
           to_string(named.view.dtype));
  }
}

// The view's bytes for the host: where they lie, or copied into `storage`.
std::span<const std::byte> host_bytes(Device device, const View& view,
                                      std::vector<std::byte>& storage) {
  const auto size = static_cast<size_t>(view.bytes());
  if (device.kind == DeviceKind::kCpu && !device.planned)
    return {static_cast<const std::byte*>(view.data), size};
  storage.resize(size);
  read_now(device, storage.data(), view);
  return storage;
}

}  // namespace

void save_state(const std::filesystem::path& path, Device device, std::span<const NamedView> views,
                const std::map<std::string, std::string>& metadata) {
  std::vector<std::vector<std::byte>> storage;
  std::vector<NamedArray> arrays;
  for (const NamedView& named : views)
    arrays.push_back({named.name,
                      dtype_name(named),
                      {named.view.count()},
                      host_bytes(device, named.view, storage.emplace_back())});
  save_safetensors(path, arrays, metadata);
}

void load_state(const SafetensorsFile& file, Device device, std::span<const NamedView> views) {
  for (const NamedView& named : views) {
    const NamedArray& array = file.at(named.name);
    require(
        array.dtype == dtype_name(named) && array.shape == std::vector<int64_t>{named.view.count()},
        "{}: '{}' does not fit this training: it needs {} numbers of {}", file.file, named.name,
        named.view.count(), dtype_name(named));
  }
  for (const NamedView& named : views)
    write_now(device, named.view, file.at(named.name).bytes.data());  // aligned or not
}

}  // namespace ringfort
