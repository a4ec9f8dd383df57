// Models for tests: a linear one, whose attacks have closed forms, and small registered ones.
#pragma once

#include <memory>
#include <vector>

#include "adversarial/attack.h"
#include "kernels/philox.h"
#include "models/layers.h"
#include "models/model.h"

namespace ringfort::test {

// logits = W x + b on flattened pixels, no normalisation.
class LinearModel final : public Model {
 public:
  LinearModel(int64_t size, int64_t channels, int64_t classes, bool bfloat16_copy = false)
      : Model(spec_of(size, channels, classes), Dtype::kFloat32) {
    layer_ = LayerBuilder(params()).linear("fc", size * size * channels, classes);
    allocate(bfloat16_copy);
  }
  // Row `k` of W.
  float* weights(int64_t k) {
    const View w = params().master(layer_.weight);
    return w.as<float>() + k * w.shape.per_sample();
  }
  float* bias() { return params().master(layer_.bias).as<float>(); }

  static ModelSpec spec_of(int64_t size, int64_t channels, int64_t classes) {
    ModelSpec spec;
    spec.name = "linear";
    spec.height = spec.image_width = size;
    spec.channels = channels;
    spec.classes = classes;
    return spec;
  }

 private:
  Var body(Pass& p, Var x) override {
    return linear(p, flatten(p, std::move(x)), layer_, Activation::kNone, logits_dtype(p));
  }
  LinearParams layer_;
};

inline ModelSpec tiny_spec(const std::string& name, int width, int64_t size, int64_t channels) {
  ModelSpec spec;
  spec.name = name;
  spec.width = width;
  spec.height = spec.image_width = size;
  spec.channels = channels;
  spec.classes = 4;
  spec.mean.assign(static_cast<size_t>(channels), 0.45f);
  spec.std.assign(static_cast<size_t>(channels), 0.25f);
  return spec;
}

// Uniform pixels in [low, high], labels 0, 1, 2, ... modulo classes, samples first, first + 1, ...
inline AttackInput random_input(Pool& pool, Shape shape, int64_t classes, uint64_t seed,
                                float low = 0, float high = 1, int64_t first = 0) {
  AttackInput input;
  input.x_nat = Tensor(pool, shape, Dtype::kFloat32);
  input.labels = Tensor(pool, matrix_shape(shape.n, 1), Dtype::kInt32);
  input.samples = Tensor(pool, matrix_shape(shape.n, 1), Dtype::kInt64);
  const RandomKey key{seed, Purpose::kTest, 0};
  const int64_t length = shape.per_sample();
  for (int64_t n = 0; n < shape.n; ++n) {
    input.samples.as<int64_t>()[n] = first + n;
    input.labels.as<int32_t>()[n] = static_cast<int32_t>((first + n) % classes);
    for (int64_t i = 0; i < length; ++i)
      input.x_nat.as<float>()[n * length + i] =
          low + (high - low) *
                    uniform01(key.word(static_cast<uint64_t>(first + n), static_cast<uint32_t>(i)));
  }
  return input;
}

// The elements of a float32 tensor.
inline std::vector<float> elements(const Tensor& tensor) {
  const float* first = tensor.as<const float>();
  return {first, first + tensor.view().count()};
}

}  // namespace ringfort::test
