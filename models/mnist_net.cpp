#include "models/mnist_net.h"

namespace ringfort {

MnistNet::MnistNet(ModelSpec model_spec, Dtype master) : Model(std::move(model_spec), master) {
  require(spec().height >= 4 && spec().image_width >= 4,
          "model '{}': images must be at least 4 x 4, got {} x {}", spec().name, spec().height,
          spec().image_width);
  LayerBuilder build(params());
  const int64_t width = spec().width;
  constexpr ConvOptions kHalving = {2, 1};
  conv1_ = build.conv_with_bias("0", spec().channels, width, 4, kHalving);
  conv2_ = build.conv_with_bias("2", width, 2 * width, 4, kHalving);
  hidden_ =
      build.linear_of_image("5", {1, spec().height / 4, spec().image_width / 4, 2 * width}, 100);
  classifier_ = build.linear("7", 100, spec().classes);
}

Var MnistNet::body(Pass& p, Var x) {
  x = conv2d_bias(p, std::move(x), conv1_, Activation::kRelu);
  x = conv2d_bias(p, std::move(x), conv2_, Activation::kRelu);
  x = linear(p, flatten(p, std::move(x)), hidden_, Activation::kRelu, p.options.dtype);
  return linear(p, std::move(x), classifier_, Activation::kNone, logits_dtype(p));
}

}  // namespace ringfort
