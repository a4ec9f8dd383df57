// Model: a network with its parameters, made by name from the registry, to which a program may add
// its own. Input normalisation is its first layer: models take pixels in [0, 1], and eps is never
// divided by a standard deviation.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/ops/ops.h"

namespace ringfort {

struct ModelSpec {
  std::string name;
  int width = 0;  // channels of the first stage; 0: the registry's default
  int64_t classes = 10;
  int64_t height = 32, image_width = 32, channels = 3;
  std::vector<float> mean, std;  // per channel, of pixels in [0, 1]; empty: no normalisation
  bool auxiliary_norms = false;  // two sets of batch norms (PassOptions::norms)
};

class Model {
 public:
  virtual ~Model() = default;

  // pixels (N, H, W, C), float32 (float64 in a float64 pass), in [0, 1] -> logits (N, classes),
  // float32 or float64.
  Var forward(Pass& p, Var pixels);

  // Gives parameters and the input's normalisation their memory; called once, when all layers are
  // declared.
  void allocate(bool bfloat16_copy = false, Device device = {});

  // Of the input, one number per channel, or none: no normalisation; afterwards the model's
  // specification has it. Errors: other counts, not possible numbers (both up to a million,
  // deviations positive).
  void set_normalization(const std::vector<float>& mean, const std::vector<float>& std);

  // Of device memory: parameters, gradients and what is made of them.
  int64_t bytes_reserved() const { return params_.bytes_reserved() + pool_.bytes_reserved(); }

  const ModelSpec& spec() const { return spec_; }
  ParamStore& params() { return params_; }
  const ParamStore& params() const { return params_; }

 protected:
  Model(ModelSpec spec, Dtype master);
  // x: the normalised input.
  virtual Var body(Pass& p, Var x) = 0;
  Dtype logits_dtype(const Pass& p) const;

 private:
  void take_normalization(std::vector<float> mean, std::vector<float> std);
  void write_normalization();

  ModelSpec spec_;
  ParamStore params_;
  Pool pool_;
  Tensor scale_, shift_;  // 1/std and -mean/std
};

struct ModelOptions {
  Dtype master = Dtype::kFloat32;
  bool bfloat16_copy = false;  // for passes in bfloat16
  Device device = {};
};

// Parameters are allocated and not yet initialised. Errors: an unknown name lists the known ones; a
// width or image the model cannot have.
std::unique_ptr<Model> make_model(ModelSpec spec, ModelOptions options = {});

struct ModelEntry {
  std::string_view name;
  int default_width;
  std::string_view description;
  std::unique_ptr<Model> (*make)(ModelSpec spec, Dtype master);
};
const std::vector<ModelEntry>& model_registry();
// Errors: an unknown name lists the known ones.
const ModelEntry& find_model(std::string_view name);

// Adds a network of the caller's own, which recipes, checkpoints and memory plans then know by its
// name; what the name and the description point to must live on. At the start of a program, before
// other threads ask for models. Errors: there is a model of that name.
void register_model(const ModelEntry& entry);

}  // namespace ringfort
