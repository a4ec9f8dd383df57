#include "models/cnn_small.h"

namespace ringfort {

CnnSmall::CnnSmall(ModelSpec model_spec, Dtype master) : Model(std::move(model_spec), master) {
  LayerBuilder build(params());
  const int64_t width = spec().width;
  const auto halved = [](int64_t size) { return (size + 1) / 2; };
  const int64_t height = halved(halved(spec().height)),
                columns = halved(halved(spec().image_width));
  conv1_ = build.conv_with_bias("conv1", spec().channels, width, 3, 1);
  conv2_ = build.conv_with_bias("conv2", width, 2 * width, 3, 2);
  conv3_ = build.conv_with_bias("conv3", 2 * width, 4 * width, 3, 2);
  hidden_ = build.linear_of_image("fc1", {1, height, columns, 4 * width}, 8 * width);
  classifier_ = build.linear("fc2", 8 * width, spec().classes);
}

Var CnnSmall::body(Pass& p, Var x) {
  x = conv2d_bias(p, std::move(x), conv1_, Activation::kRelu);
  x = conv2d_bias(p, std::move(x), conv2_, Activation::kRelu);
  x = conv2d_bias(p, std::move(x), conv3_, Activation::kRelu);
  x = linear(p, flatten(p, std::move(x)), hidden_, Activation::kRelu, p.options.dtype);
  return linear(p, std::move(x), classifier_, Activation::kNone, logits_dtype(p));
}

}  // namespace ringfort
