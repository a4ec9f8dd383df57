#include "models/model.h"

#include <fmt/ranges.h>

#include <cmath>

#include "kernels/device_memory.h"
#include "models/cnn_small.h"
#include "models/mnist_net.h"
#include "models/preact_resnet.h"
#include "models/resnet.h"

namespace ringfort {

Model::Model(ModelSpec spec, Dtype master) : spec_(std::move(spec)), params_(master) {
  take_normalization(spec_.mean, spec_.std);
}

void Model::take_normalization(std::vector<float> mean, std::vector<float> std) {
  const auto channels = static_cast<size_t>(spec_.channels);
  if (mean.empty()) mean.assign(channels, 0.0f);
  if (std.empty()) std.assign(channels, 1.0f);
  require(mean.size() == channels && std.size() == channels,
          "model '{}': {} means and {} standard deviations for {} channels", spec_.name,
          mean.size(), std.size(), channels);
  for (size_t c = 0; c < channels; ++c) {
    // Of pixels in [0, 1]; 1/std and mean/std must be float32 numbers that can be computed with.
    require(std::abs(mean[c]) <= 1e6f,
            "model '{}': the mean of channel {} is {}, it must lie in [-1e6, 1e6]", spec_.name, c,
            mean[c]);
    require(
        std[c] >= 1e-6f && std[c] <= 1e6f,
        "model '{}': the standard deviation of channel {} is {}, it must be positive and lie in "
        "[1e-6, 1e6]",
        spec_.name, c, std[c]);
  }
  spec_.mean = std::move(mean);
  spec_.std = std::move(std);
}

void Model::allocate(bool bfloat16_copy, Device device) {
  params_.allocate(bfloat16_copy, device);
  pool_ = Pool(device);
  scale_ = Tensor(pool_, vector_shape(spec_.channels), Dtype::kFloat64);
  shift_ = Tensor(pool_, vector_shape(spec_.channels), Dtype::kFloat64);
  write_normalization();
}

void Model::set_normalization(const std::vector<float>& mean, const std::vector<float>& std) {
  take_normalization(mean, std);
  write_normalization();
}

void Model::write_normalization() {
  const auto channels = static_cast<size_t>(spec_.channels);
  std::vector<double> scale(channels), shift(channels);
  for (size_t c = 0; c < channels; ++c) {
    scale[c] = 1.0 / static_cast<double>(spec_.std[c]);
    shift[c] = -static_cast<double>(spec_.mean[c]) / static_cast<double>(spec_.std[c]);
  }
  write_now(params_.device(), scale_, scale.data());
  write_now(params_.device(), shift_, shift.data());
}

Var Model::forward(Pass& p, Var pixels) {
  const Shape shape = pixels.value.shape();
  require(shape.h == spec_.height && shape.w == spec_.image_width && shape.c == spec_.channels,
          "model '{}' takes images of {} x {} x {}, got {}", spec_.name, spec_.height,
          spec_.image_width, spec_.channels, to_string(shape));
  return body(p, normalize(p, std::move(pixels), scale_, shift_));
}

Dtype Model::logits_dtype(const Pass& p) const {
  return p.options.dtype == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
}

namespace {

template <class Network, const auto&... kDesign>
std::unique_ptr<Model> make(ModelSpec spec, Dtype master) {
  return std::make_unique<Network>(std::move(spec), master, kDesign...);
}

std::vector<ModelEntry>& registry() {
  static std::vector<ModelEntry> entries = {
      {"cnn_small", 16, "three 3x3 convolutions with ReLU (strides 1, 2, 2) and two linear layers",
       make<CnnSmall>},
      {"mnist_net", 16, "two 4x4 convolutions of stride 2 and two linear layers (Wong et al. 2020)",
       make<MnistNet>},
      {"preact_resnet18", 64,
       "pre-activation ResNet-18; projection shortcuts start after the block's first norm-ReLU",
       make<PreActResNet, kPreActResNet18>},
      {"preact_resnet18_raw", 64, "the same with projection shortcuts from the block's raw input",
       make<PreActResNet, kPreActResNet18Raw>},
      {"resnet18", 64, "ResNet-18 for small images: 3x3 stem, no pooling, basic blocks",
       make<ResNet, kResNet18>},
      {"resnet50", 64,
       "ResNet-50 v1.5: 7x7 stem, max pooling, bottlenecks with the stride in the 3x3",
       make<ResNet, kResNet50>},
      {"wrn_28_10", 160, "wide ResNet-28 as in TRADES; width 160 is a widening factor of 10",
       make<PreActResNet, kWideResNet28>},
      {"wrn_34_10", 160, "wide ResNet-34 as in TRADES; width 160 is a widening factor of 10",
       make<PreActResNet, kWideResNet34>},
      {"wrn_28_10_silu", 160, "wide ResNet-28 with SiLU as DeepMind defines it",
       make<PreActResNet, kWideResNet28Silu>},
      {"wrn_70_16_silu", 256, "the same with 70 layers, 16 times as wide",
       make<PreActResNet, kWideResNet70Silu>},
  };
  return entries;
}

}  // namespace

const std::vector<ModelEntry>& model_registry() { return registry(); }

void register_model(const ModelEntry& entry) {
  for (const ModelEntry& other : registry())
    require(other.name != entry.name, "there is a model '{}' already; give yours another name",
            entry.name);
  registry().push_back(entry);
}

const ModelEntry& find_model(std::string_view name) {
  std::vector<std::string_view> names;
  for (const ModelEntry& entry : model_registry()) {
    if (entry.name == name) return entry;
    names.push_back(entry.name);
  }
  fail("there is no model '{}'; known are {}", name, fmt::join(names, ", "));
}

std::unique_ptr<Model> make_model(ModelSpec spec, ModelOptions options) {
  const ModelEntry& entry = find_model(spec.name);
  if (spec.width == 0) spec.width = entry.default_width;
  require(spec.width > 0 && spec.width <= 4096, "model '{}': width must be in [1, 4096], got {}",
          spec.name, spec.width);
  require(spec.classes >= 2 && spec.channels >= 1,
          "model '{}': needs at least 2 classes and 1 channel", spec.name);
  std::unique_ptr<Model> model = entry.make(std::move(spec), options.master);
  require(!model->spec().auxiliary_norms || !model->params().statistics().empty(),
          "model '{}' has no batch norm and so no auxiliary norms", entry.name);
  model->allocate(options.bfloat16_copy, options.device);
  return model;
}

}  // namespace ringfort
