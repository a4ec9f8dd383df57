// Checkpoints: a model's parameters and running statistics as safetensors, under PyTorch's names
// and in PyTorch's element order (filters (O, I, kH, kW)), with the model's specification in the
// metadata.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "models/model.h"

namespace ringfort {

// Atomic: a reader finds the old file or the new one. `extra` goes into the metadata beside the
// model's own keys.
void save_checkpoint(const std::filesystem::path& path, const Model& model,
                     const std::map<std::string, std::string>& extra);

struct LoadedModel {
  std::unique_ptr<Model> model;
  std::map<std::string, std::string> metadata;
};

// Errors, one sentence each: no Ringfort checkpoint, another architecture, missing or misshapen
// arrays, a wrong checksum.
LoadedModel load_checkpoint(Exec& exec, const std::filesystem::path& path,
                            ModelOptions options = {});

}  // namespace ringfort
