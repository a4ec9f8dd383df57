#include "models/checkpoint.h"

#include <nlohmann/json.hpp>

#include "engine/format_number.h"
#include "engine/json_error.h"
#include "models/weights.h"

namespace ringfort {
namespace {

using Metadata = std::map<std::string, std::string>;

void require_within(const std::string& file, const char* what, int64_t value, int64_t high) {
  require(value >= 1 && value <= high,
          "{}: the model it is of has {} {}, from 1 to {} are possible; take another file", file,
          what, value, high);
}

}  // namespace

std::map<std::string, std::string> describe(const ModelSpec& spec) {
  nlohmann::json json = {
      {kFormatKey, kCheckpointFormat}, {"name", spec.name},     {"width", spec.width},
      {"classes", spec.classes},       {"height", spec.height}, {"image_width", spec.image_width},
      {"channels", spec.channels},     {"mean", spec.mean},     {"std", spec.std},
  };
  if (spec.auxiliary_norms) json["auxiliary_norms"] = true;
  return {{kModelKey, json.dump()}};
}

void require_possible(const ModelSpec& spec, const std::string& file) {
  require_within(file, "width", spec.width, 4096);
  require_within(file, "classes", spec.classes, 1 << 16);
  require_within(file, "height", spec.height, 4096);
  require_within(file, "image_width", spec.image_width, 4096);
  require_within(file, "channels", spec.channels, 1024);
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
    require_format(json, kCheckpointFormat, file.file, "checkpoint");
    ModelSpec spec;
    spec.name = json.at("name").get<std::string>();
    const auto whole = [&](const char* key) {
      const nlohmann::json& number = json.at(key);
      const bool fits = number.is_number_unsigned() && number.get<uint64_t>() <= INT32_MAX;
      require(fits,
              "{}: the model in its metadata has {} {}, which must be a whole number; take "
              "another file",
              file.file, key, number.dump());
      return number.get<int>();
    };
    spec.width = whole("width");
    spec.classes = whole("classes");
    spec.height = whole("height");
    spec.image_width = whole("image_width");
    spec.channels = whole("channels");
    spec.mean = json.at("mean").get<std::vector<float>>();
    spec.std = json.at("std").get<std::vector<float>>();
    spec.auxiliary_norms = json.value("auxiliary_norms", false);
    require_possible(spec, file.file);
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

std::unique_ptr<Model> outline(const ModelSpec& spec, const std::string& file) {
  require_possible(spec, file);
  try {
    return make_model(spec, {.device = {.planned = true}});
  } catch (const Error& error) {
    fail("{}: {}", file, error.what());
  }
}

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  Checkpoint checkpoint;
  checkpoint.file = load_safetensors(path);
  checkpoint.spec = read_spec(checkpoint.file);
  // A size that the arrays do not have is refused before it takes memory.
  const std::string& file = checkpoint.file.file;
  require_weights(*outline(checkpoint.spec, file), checkpoint.file.arrays, file,
                  "; where they are named as another tool names them, 'ringfort import' makes a "
                  "checkpoint of them");
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
  loaded.model = make_model(checkpoint.spec, options);
  put_weights(exec, checkpoint, *loaded.model);
  loaded.metadata = checkpoint.file.metadata;
  return loaded;
}

}  // namespace ringfort
