#include "models/checkpoint.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/json_error.h"
#include "engine/safetensors.h"
#include "kernels/device_memory.h"
#include "kernels/slots.h"

namespace ringfort {
namespace {

using Metadata = std::map<std::string, std::string>;

std::vector<int64_t> file_shape(const Segment& segment) {
  const Shape& s = segment.shape;
  switch (segment.kind) {
    case ParamKind::kConvWeight:
      return {s.n, s.c, s.h, s.w};
    case ParamKind::kLinearWeight:
      return {s.n, s.per_sample()};
    default:
      return {s.c};
  }
}

// Calls visit(index in the file's order, index in memory) for every element: filters change from
// (O, kH, kW, I) to (O, I, kH, kW), matrices of flattened images likewise, all else stays.
template <class Visit>
void each_element(const Segment& segment, Visit&& visit) {
  const Shape& s = segment.shape;
  int64_t file = 0;
  for (int64_t o = 0; o < s.n; ++o)
    for (int64_t i = 0; i < s.c; ++i)
      for (int64_t hw = 0; hw < s.h * s.w; ++hw) visit(file++, (o * s.h * s.w + hw) * s.c + i);
}

struct Entry {
  const Segment* segment;
  View view;
};

std::vector<Entry> entries(const ParamStore& params) {
  std::vector<Entry> all;
  for (size_t i = 0; i < params.segments().size(); ++i)
    all.push_back({&params.segments()[i], params.master(static_cast<ParamId>(i))});
  for (size_t i = 0; i < params.statistics().size(); ++i)
    all.push_back({&params.statistics()[i], params.statistic(static_cast<StatId>(i))});
  return all;
}

Metadata describe(const ModelSpec& spec) {
  const nlohmann::json json = {
      {"name", spec.name},
      {"width", spec.width},
      {"classes", spec.classes},
      {"height", spec.height},
      {"image_width", spec.image_width},
      {"channels", spec.channels},
      {"mean", spec.mean},
      {"std", spec.std},
  };
  return {{"ringfort.model", json.dump()}};
}

ModelSpec read_spec(const SafetensorsFile& file) {
  const auto found = file.metadata.find("ringfort.model");
  require(found != file.metadata.end(),
          "{}: the file says nothing about the model it belongs to; is it a checkpoint made by "
          "Ringfort?",
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
    const auto within = [&](const char* what, int64_t value, int64_t high) {
      require(value >= 1 && value <= high,
              "{}: the model in its metadata has {} {}, from 1 to {} are possible; take another "
              "checkpoint",
              file.file, what, value, high);
    };
    within("width", json.at("width").get<int64_t>(), 4096);
    within("classes", spec.classes, 1 << 16);
    within("height", spec.height, 4096);
    within("image_width", spec.image_width, 4096);
    within("channels", spec.channels, 1024);
    return spec;
  } catch (const nlohmann::json::exception& error) {
    fail("{}: the model in its metadata cannot be read: {}", file.file, json_reason(error));
  }
}

void fill(const SafetensorsFile& file, const Entry& entry, Device device) {
  const NamedArray& array = file.at(entry.segment->name);
  require(array.dtype == "F32" && array.shape == file_shape(*entry.segment),
          "{}: '{}' is {} with {} dimensions, the model needs F32 of shape {}", file.file,
          array.name, array.dtype, array.shape.size(), to_string(entry.segment->shape));
  std::vector<std::byte> values(static_cast<size_t>(entry.view.bytes()));
  View host = entry.view;
  host.data = values.data();
  each_element(*entry.segment, [&](int64_t from, int64_t to) {
    float value;
    std::memcpy(&value, array.bytes.data() + from * 4, 4);
    // The largest of NaN logits is class 0, which would count as an answer.
    require(std::isfinite(value),
            "{}: '{}' holds {}, so the network gives no predictions; take a checkpoint from before "
            "the training diverged",
            file.file, array.name, value);
    require(value >= 0 || entry.segment->kind != ParamKind::kRunningVariance,
            "{}: '{}' holds {}, but no variance is negative; the file is damaged or was made by "
            "another tool, take another checkpoint",
            file.file, array.name, value);
    detail::store_element(host, to, value);
  });
  write_now(device, entry.view, values.data());
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const Model& model, const Metadata& extra) {
  require(model.params().master_dtype() == Dtype::kFloat32,
          "checkpoint: only float32 models are saved");
  std::vector<std::vector<float>> storage;
  std::vector<NamedArray> arrays;
  for (const Entry& entry : entries(model.params())) {
    std::vector<float> in_memory(static_cast<size_t>(entry.view.count()));
    read_now(model.params().device(), in_memory.data(), entry.view);
    std::vector<float>& values = storage.emplace_back(in_memory.size());
    each_element(*entry.segment, [&](int64_t to, int64_t from) {
      values[static_cast<size_t>(to)] = in_memory[static_cast<size_t>(from)];
    });
    arrays.push_back(
        {entry.segment->name, "F32", file_shape(*entry.segment), std::as_bytes(std::span(values))});
  }
  Metadata metadata = describe(model.spec());
  metadata.insert(extra.begin(), extra.end());
  save_safetensors(path, arrays, metadata);
}

LoadedModel load_checkpoint(Exec& exec, const std::filesystem::path& path, ModelOptions options) {
  const SafetensorsFile file = load_safetensors(path);
  LoadedModel loaded;
  const ModelSpec spec = read_spec(file);
  try {
    loaded.model = make_model(spec, options);
  } catch (const Error& error) {
    fail("{}: {}", file.file, error.what());
  }
  const std::vector<Entry> wanted = entries(loaded.model->params());
  require(file.arrays.size() == wanted.size(), "{}: holds {} arrays, the model '{}' has {}",
          file.file, file.arrays.size(), loaded.model->spec().name, wanted.size());
  for (const Entry& entry : wanted) fill(file, entry, options.device);
  loaded.model->params().master_changed(exec);
  loaded.model->params().statistics_changed();
  loaded.metadata = file.metadata;
  return loaded;
}

}  // namespace ringfort
