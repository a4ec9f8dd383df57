#include "models/layers.h"

namespace ringfort {

ConvParams LayerBuilder::conv(const std::string& name, int64_t in, int64_t out, int kernel,
                              ConvOptions options) {
  ConvParams conv;
  conv.weight = params_.add(name + ".weight", {out, kernel, kernel, in}, ParamKind::kConvWeight,
                            init_.filter);
  conv.options = options;
  return conv;
}

ConvParams LayerBuilder::conv_with_bias(const std::string& name, int64_t in, int64_t out,
                                        int kernel, ConvOptions options) {
  ConvParams layer = conv(name, in, out, kernel, options);
  layer.bias = params_.add(name + ".bias", vector_shape(out), ParamKind::kBias);
  return layer;
}

NormSet LayerBuilder::norm_set(const std::string& name, int64_t channels) {
  NormSet set;
  set.gamma = params_.add(name + ".weight", vector_shape(channels), ParamKind::kNormScale);
  set.beta = params_.add(name + ".bias", vector_shape(channels), ParamKind::kNormShift);
  set.mean = params_.add_statistic(name + ".running_mean", channels, ParamKind::kRunningMean);
  set.variance =
      params_.add_statistic(name + ".running_var", channels, ParamKind::kRunningVariance);
  return set;
}

NormParams LayerBuilder::norm(const std::string& name, int64_t channels, float momentum) {
  NormParams norm{norm_set(name, channels)};
  norm.momentum = momentum;
  if (auxiliary_norms_) norm.auxiliary = norm_set(name + ".aux_bn", channels);
  return norm;
}

GroupNormParams LayerBuilder::group_norm(const std::string& name, int64_t channels,
                                         int64_t groups) {
  GroupNormParams norm;
  norm.gamma = params_.add(name + ".weight", vector_shape(channels), ParamKind::kNormScale);
  norm.beta = params_.add(name + ".bias", vector_shape(channels), ParamKind::kNormShift);
  norm.groups = groups;
  return norm;
}

LinearParams LayerBuilder::linear(const std::string& name, int64_t in, int64_t out) {
  return linear_of_image(name, vector_shape(in), out);
}

LinearParams LayerBuilder::linear_of_image(const std::string& name, const Shape& image,
                                           int64_t out) {
  LinearParams layer;
  layer.weight = params_.add(name + ".weight", {out, image.h, image.w, image.c},
                             ParamKind::kLinearWeight, init_.matrix);
  layer.bias = params_.add(name + ".bias", vector_shape(out), ParamKind::kBias, init_.matrix_bias);
  return layer;
}

}  // namespace ringfort
