// LayerBuilder: declares a model's layers in order of use, under the parameter names of the
// well-known PyTorch definitions ("layer1.0.conv1.weight"), and hands back the ids the ops take.
#pragma once

#include <string>

#include "engine/ops/ops.h"

namespace ringfort {

class LayerBuilder {
 public:
  explicit LayerBuilder(ParamStore& params) : params_(params) {}

  // A square filter without bias, padded so that stride 1 keeps the size (kernel odd).
  ConvParams conv(const std::string& name, int64_t in, int64_t out, int kernel, int stride);
  ConvParams conv_with_bias(const std::string& name, int64_t in, int64_t out, int kernel,
                            int stride);
  NormParams norm(const std::string& name, int64_t channels);
  LinearParams linear(const std::string& name, int64_t in, int64_t out);

 private:
  ParamStore& params_;
};

}  // namespace ringfort
