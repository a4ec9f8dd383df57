#include "models/layers.h"

namespace ringfort {

ConvParams LayerBuilder::conv(const std::string& name, int64_t in, int64_t out, int kernel,
                              int stride) {
  ConvParams conv;
  conv.weight = params_.add(name + ".weight", {out, kernel, kernel, in}, ParamKind::kConvWeight);
  conv.options = {stride, kernel / 2};
  return conv;
}

ConvParams LayerBuilder::conv_with_bias(const std::string& name, int64_t in, int64_t out,
                                        int kernel, int stride) {
  ConvParams layer = conv(name, in, out, kernel, stride);
  layer.bias = params_.add(name + ".bias", vector_shape(out), ParamKind::kBias);
  return layer;
}

NormParams LayerBuilder::norm(const std::string& name, int64_t channels) {
  NormParams norm;
  norm.gamma = params_.add(name + ".weight", vector_shape(channels), ParamKind::kNormScale);
  norm.beta = params_.add(name + ".bias", vector_shape(channels), ParamKind::kNormShift);
  norm.mean = params_.add_statistic(name + ".running_mean", channels, ParamKind::kRunningMean);
  norm.variance =
      params_.add_statistic(name + ".running_var", channels, ParamKind::kRunningVariance);
  return norm;
}

LinearParams LayerBuilder::linear(const std::string& name, int64_t in, int64_t out) {
  LinearParams layer;
  layer.weight = params_.add(name + ".weight", matrix_shape(out, in), ParamKind::kLinearWeight);
  layer.bias = params_.add(name + ".bias", vector_shape(out), ParamKind::kBias);
  return layer;
}

}  // namespace ringfort
