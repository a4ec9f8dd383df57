#include "models/checkpoint.h"

#include <nlohmann/json.hpp>

#include "engine/json_error.h"
#include "models/weights.h"

namespace ringfort {
namespace {

using Metadata = std::map<std::string, std::string>;

void require_within(const SafetensorsFile& file, const char* what, int64_t value, int64_t high) {
  require(value >= 1 && value <= high,
          "{}: the model in its metadata has {} {}, from 1 to {} are possible; take another "
          "checkpoint",
          file.file, what, value, high);
}

}  // namespace

std::map<std::string, std::string> describe(const ModelSpec& spec) {
  nlohmann::json json = {
      {"name", spec.name},
      {"width", spec.width},
      {"classes", spec.classes},
      {"height", spec.height},
      {"image_width", spec.image_width},
      {"channels", spec.channels},
      {"mean", spec.mean},
      {"std", spec.std},
  };
  if (spec.auxiliary_norms) json["auxiliary_norms"] = true;
  return {{kModelKey, json.dump()}};
}

ModelSpec read_spec(const SafetensorsFile& file) {
  const auto found = file.metadata.find(kModelKey);
  require(
      found != file.metadata.end(),
      "{}: the file says nothing about the model it belongs to, as checkpoints made by Ringfort "
      "do; 'ringfort import' makes one of another tool's weights",
      file.file);
  try {
    const auto json = nlohmann::json::parse(found->second);
    ModelSpec spec;
    spec.name = json.at("name").get<std::string>();
    spec.width = json.at("width").get<int>();
    spec.classes = json.at("classes").get<int64_t>();
    spec.height = json.at("height").get<int64_t>();
    spec.image_width = json.at("image_width").get<int64_t>();
    spec.channels = json.at("channels").get<int64_t>();
    spec.mean = json.at("mean").get<std::vector<float>>();
    spec.std = json.at("std").get<std::vector<float>>();
    spec.auxiliary_norms = json.value("auxiliary_norms", false);
    require_within(file, "width", json.at("width").get<int64_t>(), 4096);
    require_within(file, "classes", spec.classes, 1 << 16);
    require_within(file, "height", spec.height, 4096);
    require_within(file, "image_width", spec.image_width, 4096);
    require_within(file, "channels", spec.channels, 1024);
    return spec;
  } catch (const nlohmann::json::exception& error) {
    fail("{}: the model in its metadata cannot be read: {}", file.file, json_reason(error));
  }
}

void save_checkpoint(const std::filesystem::path& path, const Model& model, const Metadata& extra) {
  Metadata metadata = describe(model.spec());
  metadata.insert(extra.begin(), extra.end());
  save_safetensors(path, read_weights(model).arrays, metadata);
}

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  Checkpoint checkpoint;
  checkpoint.file = load_safetensors(path);
  checkpoint.spec = read_spec(checkpoint.file);
  return checkpoint;
}

void put_weights(Exec& exec, const Checkpoint& checkpoint, Model& model) {
  require(checkpoint.spec.name == model.spec().name, "{}: holds a '{}', and the model is a '{}'",
          checkpoint.file.file, checkpoint.spec.name, model.spec().name);
  write_weights(exec, model, checkpoint.file.arrays, checkpoint.file.file);
}

LoadedModel load_checkpoint(Exec& exec, const std::filesystem::path& path, ModelOptions options) {
  const Checkpoint checkpoint = read_checkpoint(path);
  LoadedModel loaded;
  try {
    loaded.model = make_model(checkpoint.spec, options);
  } catch (const Error& error) {
    fail("{}: {}", checkpoint.file.file, error.what());
  }
  put_weights(exec, checkpoint, *loaded.model);
  loaded.metadata = checkpoint.file.metadata;
  return loaded;
}

}  // namespace ringfort
