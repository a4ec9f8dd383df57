// `ringfort export` and `ringfort import`: weights to and from the PyTorch world (models/naming.h).
#include <fmt/format.h>

#include "engine/data/dataset.h"
#include "models/checkpoint.h"
#include "models/naming.h"
#include "tools/commands.h"
#include "tools/run_folder.h"
#include "tools/target.h"

namespace ringfort {
namespace {

namespace fs = std::filesystem;

std::string numbers(const std::vector<float>& values) {
  std::string text;
  for (const float value : values) {
    if (!text.empty()) text += ',';
    text += fmt::format("{}", value);
  }
  return text;
}

bool is_normalized(const ModelSpec& spec) {
  return spec.mean != std::vector<float>(spec.mean.size(), 0.0f) ||
         spec.std != std::vector<float>(spec.std.size(), 1.0f);
}

// The images that the network is for, where the command says where they lie.
std::optional<Dataset> data_of(const ImportCommand& c) {
  if (c.dataset.empty() || c.data_dir.empty()) return std::nullopt;
  return load_dataset(c.dataset, c.data_dir, Split::kTest,
                      c.image_size > 0 ? c.image_size : kDefaultImageSize);
}

void require_fitting(const ModelSpec& spec, const Dataset& data) {
  const auto classes = static_cast<int64_t>(data.class_names.size());
  require(spec.classes == classes && spec.channels == data.channels,
          "import: the network tells {} classes of images with {} channels apart, and {} has {} "
          "classes and {} channels; choose another --dataset",
          spec.classes, spec.channels, data.name, classes, data.channels);
}

// What the command, the file's metadata and the data set say of the model.
ModelSpec wanted_spec(const ImportCommand& c, const SafetensorsFile& file,
                      const std::optional<Dataset>& data) {
  ModelSpec spec;
  if (file.metadata.contains(kModelKey)) spec = read_spec(file);
  require(!c.model.empty() || !spec.name.empty(),
          "import: '{}' does not say which network it is of; name it by --model (ringfort info "
          "--models lists them)",
          file.file);
  if (!c.model.empty() && c.model != spec.name) spec = {}, spec.name = c.model;
  if (c.image_size > 0) spec.height = spec.image_width = c.image_size;
  if (data) spec.height = data->height, spec.image_width = data->width;
  if (spec.width == 0) spec.width = find_model(spec.name).default_width;
  return spec;
}

const NamedArray* find(const std::vector<NamedArray>& arrays, const std::string& name) {
  for (const NamedArray& array : arrays)
    if (array.name == name) return &array;
  return nullptr;
}

// Channels as the first filter has them; classes, and the width that makes as many features, as the
// classifier.
ModelSpec as_in_file(ModelSpec spec, const SafetensorsFile& file, const std::string& naming) {
  const auto model = outline(spec, file.file);
  const Recognised found = recognise(file, *model, naming);
  const std::vector<Segment>& segments = model->params().segments();
  const NamedArray* stem = find(found.arrays, segments.front().name);
  if (stem != nullptr && stem->shape.size() == 4) spec.channels = stem->shape[1];
  const Segment& matrix = segments.at(segments.size() - 2);
  const NamedArray* classifier = find(found.arrays, matrix.name);
  if (classifier == nullptr || classifier->shape.size() != 2) return spec;
  constexpr int64_t kMost = 1 << 18;  // more is refused, whatever it is
  const int64_t features = matrix.shape.per_sample();
  const int64_t widths = std::min(classifier->shape[1], kMost) * spec.width;
  spec.classes = classifier->shape[0];
  if (widths > 0 && widths % features == 0) spec.width = static_cast<int>(widths / features);
  return spec;
}

// The model that the file's arrays are to fill, and what they are to it.
std::pair<ModelSpec, Recognised> read_file(const ImportCommand& c, const SafetensorsFile& file) {
  const std::optional<Dataset> data = data_of(c);
  const ModelSpec wanted = wanted_spec(c, file, data);
  ModelSpec spec = as_in_file(wanted, file, c.naming);
  if (c.width > 0) spec.width = c.width;
  if (c.classes > 0) spec.classes = c.classes;
  if (spec.channels != wanted.channels) spec.mean.clear(), spec.std.clear();
  if (data) require_fitting(spec, *data);
  const auto model = outline(spec, file.file);
  Recognised found = recognise(file, *model, c.naming);
  require_weights(*model, found.arrays, file.file);
  const auto choose = [&](std::vector<float>& to, const auto& from) {
    if (!from.empty()) to = from;
  };
  choose(spec.mean, found.mean);
  choose(spec.std, found.std);
  choose(spec.mean, c.mean);
  choose(spec.std, c.std);
  return {spec, std::move(found)};
}

void tell_import(const SafetensorsFile& file, const ModelSpec& spec, const Recognised& found) {
  fmt::print(
      "{} arrays of '{}' are the weights of {}, width {}, {} classes (naming {}{}{}{})\n",
      found.arrays.size(), file.file, spec.name, spec.width, spec.classes, found.naming->name,
      found.prefix.empty() ? "" : fmt::format(", each name after '{}'", found.prefix),
      found.skipped > 0 ? fmt::format(", {} that decide nothing left out", found.skipped) : "",
      found.mean.empty() ? "" : ", normalisation in the file");
  if (is_normalized(spec))
    fmt::print("Pixels are normalised by mean {} and standard deviation {}\n", numbers(spec.mean),
               numbers(spec.std));
  else
    fmt::print(
        "Pixels go in as they are, in [0, 1]; if the network was trained on normalised ones, give "
        "--mean and --std\n");
}

void write_run(const ImportCommand& c, const Model& model,
               const std::map<std::string, std::string>& metadata) {
  Recipe recipe;
  recipe.dataset = c.dataset;
  recipe.data_dir = c.data_dir;
  recipe.model = model.spec().name;
  recipe.width = model.spec().width;
  recipe.image_size = static_cast<int>(model.spec().height);
  recipe.norm = c.norm.value_or(recipe.norm);
  recipe.eps = c.eps.value_or(recipe.eps);
  recipe.output = c.output.string();
  validate(recipe);
  RunFolder run(c.output, recipe, ExistingRun::kRefuse);
  for (const char* name : {kBestCheckpoint, kLastCheckpoint})
    save_checkpoint(c.output / name, model, metadata);
  run.on_import(fs::absolute(c.file).string(), recipe);
  run.on_end(false);
}

}  // namespace

int run_export(const ExportCommand& command) {
  require(command.output.extension() == ".safetensors",
          "export: '{}' is to be a safetensors file, so let --output end in .safetensors",
          command.output.string());
  require_new(command.output);
  Exec exec;
  const Target target = find_target("export", command.target);
  const LoadedModel loaded = load_checkpoint(exec, target.checkpoint);
  const ModelSpec& spec = loaded.model->spec();
  const Naming& naming = find_naming(command.naming, spec.name);
  const StateDict dict = state_dict(*loaded.model, naming);
  save_safetensors(command.output, dict.arrays, loaded.metadata);
  fmt::print("{} arrays of {} (width {}, {} classes) written to {}, naming {}\n",
             dict.arrays.size(), spec.name, spec.width, spec.classes, command.output.string(),
             naming.name);
  if (!naming.unused_group.empty())
    fmt::print("{} holds copies of {}: that definition never uses it\n", naming.unused_group,
               naming.used_group);
  if (!naming.normalization && is_normalized(spec))
    fmt::print(
        "The definition does not normalise: give it (pixels - mean) / std with mean {} and "
        "std {}\n",
        numbers(spec.mean), numbers(spec.std));
  return 0;
}

int run_import(const ImportCommand& command) {
  const bool checkpoint = command.output.extension() == ".safetensors";
  require(checkpoint || (!command.dataset.empty() && !command.data_dir.empty()),
          "import: a run folder needs --dataset and --data-dir, to be evaluated on; for a "
          "checkpoint alone let --output end in .safetensors");
  require(!checkpoint || (!command.norm && !command.eps),
          "import: --norm and --eps belong to a run folder; a checkpoint gets them from 'ringfort "
          "evaluate'");
  if (checkpoint) require_new(command.output);
  const SafetensorsFile file = load_safetensors(command.file);
  const auto [spec, found] = read_file(command, file);
  Exec exec;
  const std::unique_ptr<Model> model = make_model(spec);
  write_weights(exec, *model, found.arrays, file.file);

  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : file.metadata)
    if (key.starts_with("ringfort.") && key != kModelKey) metadata[key] = value;
  if (!command.dataset.empty()) metadata["ringfort.dataset"] = command.dataset;
  if (checkpoint)
    save_checkpoint(command.output, *model, metadata);
  else
    write_run(command, *model, metadata);
  tell_import(file, model->spec(), found);
  return 0;
}

}  // namespace ringfort
