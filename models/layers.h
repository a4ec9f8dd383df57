// LayerBuilder: declares a model's layers in order of use, under the parameter names of the
// well-known PyTorch definitions ("layer1.0.conv1.weight"), and hands back the ids the ops take.
#pragma once

#include <string>

#include "engine/ops/ops.h"

namespace ringfort {

// Where an architecture's source departs from PyTorch's defaults.
struct InitScheme {
  Init filter = Init::kDefault, matrix = Init::kDefault, matrix_bias = Init::kDefault;
};

class LayerBuilder {
 public:
  // auxiliary_norms: every batch norm has a second set (NormParams::auxiliary),
  // "bn1.aux_bn.weight".
  explicit LayerBuilder(ParamStore& params, InitScheme init = {}, bool auxiliary_norms = false)
      : params_(params), init_(init), auxiliary_norms_(auxiliary_norms) {}

  // A square filter without bias.
  ConvParams conv(const std::string& name, int64_t in, int64_t out, int kernel,
                  ConvOptions options);
  // Padded so that stride 1 keeps the size (kernel odd).
  ConvParams conv(const std::string& name, int64_t in, int64_t out, int kernel, int stride) {
    return conv(name, in, out, kernel, ConvOptions{stride, kernel / 2});
  }
  ConvParams conv_with_bias(const std::string& name, int64_t in, int64_t out, int kernel,
                            ConvOptions options);
  ConvParams conv_with_bias(const std::string& name, int64_t in, int64_t out, int kernel,
                            int stride) {
    return conv_with_bias(name, in, out, kernel, ConvOptions{stride, kernel / 2});
  }
  // momentum: share of a batch in the running statistics.
  NormParams norm(const std::string& name, int64_t channels, float momentum = 0.1f);
  GroupNormParams group_norm(const std::string& name, int64_t channels, int64_t groups);
  LinearParams linear(const std::string& name, int64_t in, int64_t out);
  // Of a flattened image: its matrix is kept (out, H, W, C), as flatten() has the elements, and
  // goes into files with the columns in PyTorch's order (C, H, W).
  LinearParams linear_of_image(const std::string& name, const Shape& image, int64_t out);

 private:
  NormSet norm_set(const std::string& name, int64_t channels);

  ParamStore& params_;
  InitScheme init_;
  bool auxiliary_norms_;
};

}  // namespace ringfort
