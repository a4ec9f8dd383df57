// State files: flat buffers as they lie in memory, bit for bit, and a few numbers beside them, in a
// safetensors file. For whoever goes on from there; checkpoints (models/checkpoint.h) are for
// everyone else.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "engine/safetensors.h"
#include "kernels/exec.h"
#include "kernels/view.h"

namespace ringfort {

// A buffer of a device, float32, float64 or int64, by the name it has in the file.
struct NamedView {
  std::string name;
  View view;
};

// Writes the file atomically, after all work of the device.
void save_state(const std::filesystem::path& path, Device device, std::span<const NamedView> views,
                const std::map<std::string, std::string>& metadata);

// Writes an array of the file into each view. Errors, before anything is written: an array that is
// not there, or of another dtype or size.
void load_state(const SafetensorsFile& file, Device device, std::span<const NamedView> views);

}  // namespace ringfort
