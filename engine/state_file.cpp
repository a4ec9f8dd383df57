#include "engine/state_file.h"

#include <cstring>

#include "kernels/device_memory.h"

namespace ringfort {
namespace {

const char* dtype_name(const NamedView& named) {
  switch (named.view.dtype) {
    case Dtype::kFloat32:
      return "F32";
    case Dtype::kFloat64:
      return "F64";
    default:
      fail("state file: '{}' is {}; float32 and float64 are saved", named.name,
           to_string(named.view.dtype));
  }
}

}  // namespace

void save_state(const std::filesystem::path& path, Device device, std::span<const NamedView> views,
                const std::map<std::string, std::string>& metadata) {
  std::vector<std::vector<std::byte>> storage;
  std::vector<NamedArray> arrays;
  for (const NamedView& named : views) {
    std::vector<std::byte>& bytes = storage.emplace_back(static_cast<size_t>(named.view.bytes()));
    read_now(device, bytes.data(), named.view);
    arrays.push_back({named.name, dtype_name(named), {named.view.count()}, bytes});
  }
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
  for (const NamedView& named : views) {
    // The file's bytes may lie unaligned.
    const std::span<const std::byte> bytes = file.at(named.name).bytes;
    const std::vector<std::byte> aligned(bytes.begin(), bytes.end());
    write_now(device, named.view, aligned.data());
  }
}

}  // namespace ringfort
