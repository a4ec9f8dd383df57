// Checkpoints: a model's parameters and running statistics as safetensors, under PyTorch's names
// and in PyTorch's element order (filters (O, I, kH, kW)), with the model's specification in the
// metadata.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "engine/safetensors.h"
#include "models/model.h"

namespace ringfort {

// The metadata that says which model a file belongs to, and the model that it says; errors where it
// says none, or one that cannot be, or is of another format.
inline constexpr const char* kModelKey = "ringfort.model";
// To be raised whenever files of before would be read as something else. 1: matrices of flattened
// images have PyTorch's columns.
inline constexpr int64_t kCheckpointFormat = 1;
std::map<std::string, std::string> describe(const ModelSpec& spec);
ModelSpec read_spec(const SafetensorsFile& file);

// Refuses sizes that no network has; what comes out of a file passes here before a model is made of
// it. Errors name `file`.
void require_possible(const ModelSpec& spec, const std::string& file);

// A model of which only the arrays' names and shapes are asked, without memory of its own. Errors
// name `file`: as of require_possible() and make_model().
std::unique_ptr<Model> outline(const ModelSpec& spec, const std::string& file);

// Atomic: a reader finds the old file or the new one. `extra` goes into the metadata beside the
// model's own keys.
void save_checkpoint(const std::filesystem::path& path, const Model& model,
                     const std::map<std::string, std::string>& extra);

struct Checkpoint {
  SafetensorsFile file;
  ModelSpec spec;
};
// Errors, one sentence each: no Ringfort checkpoint, a damaged one, one with other arrays than the
// model it says.
Checkpoint read_checkpoint(const std::filesystem::path& path);

// Parameters and statistics of the checkpoint into a model of the same name. Errors: another model;
// arrays that are not the model's (write_weights).
void put_weights(Exec& exec, const Checkpoint& checkpoint, Model& model);

struct LoadedModel {
  std::unique_ptr<Model> model;
  std::map<std::string, std::string> metadata;
};

// The model of a checkpoint. Errors as of the two above.
LoadedModel load_checkpoint(Exec& exec, const std::filesystem::path& path,
                            ModelOptions options = {});

}  // namespace ringfort
