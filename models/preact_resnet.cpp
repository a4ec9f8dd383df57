#include "models/preact_resnet.h"

namespace ringfort {

PreActResNet::PreActResNet(ModelSpec model_spec, Dtype master, Shortcut shortcut)
    : Model(std::move(model_spec), master), shortcut_(shortcut) {
  LayerBuilder build(params());
  const int64_t width = spec().width;
  require(spec().height >= 8 && spec().image_width >= 8,
          "model '{}': images must be at least 8 x 8, got {} x {}", spec().name, spec().height,
          spec().image_width);
  stem_ = build.conv("conv1", spec().channels, width, 3, 1);
  int64_t in = width;
  for (int stage = 0; stage < 4; ++stage) {
    const int64_t out = width << stage;
    for (int index = 0; index < 2; ++index) {
      const std::string name = fmt::format("layer{}.{}", stage + 1, index);
      const int stride = stage > 0 && index == 0 ? 2 : 1;
      Unit block;
      block.norm1 = build.norm(name + ".bn1", in);
      if (stride != 1 || in != out)
        block.projection = build.conv(name + ".shortcut.0", in, out, 1, stride);
      block.conv1 = build.conv(name + ".conv1", in, out, 3, stride);
      block.norm2 = build.norm(name + ".bn2", out);
      block.conv2 = build.conv(name + ".conv2", out, out, 3, 1);
      units_.push_back(block);
      in = out;
    }
  }
  final_norm_ = build.norm("bn", in);
  classifier_ = build.linear("linear", in, spec().classes);
}

// x + conv2(relu(norm2(conv1(relu(norm1(x)))))), x projected where shape or stride changes, and the
// norm-ReLU that the next unit begins with. in: x and relu(norm1(x)).
SumAndNormed PreActResNet::unit(Pass& p, SumAndNormed in, const Unit& block,
                                const NormParams& next) {
  Var shortcut;
  if (block.projection.weight == ParamId::kNone)
    shortcut = std::move(in.sum);
  else
    shortcut = conv2d(p, shortcut_ == Shortcut::kAfterNorm ? in.normed : std::move(in.sum),
                      block.projection);
  in.sum = Var{};  // not needed any more: the sum below may take its memory
  Var inner = conv_norm_relu(p, std::move(in.normed), block.conv1, block.norm2);
  return conv2d_add_norm_relu(p, std::move(inner), block.conv2, std::move(shortcut), next);
}

Var PreActResNet::body(Pass& p, Var x) {
  SumAndNormed at = conv2d_with_norm_relu(p, std::move(x), stem_, units_.front().norm1);
  for (size_t i = 0; i < units_.size(); ++i)
    at = unit(p, std::move(at), units_[i],
              i + 1 < units_.size() ? units_[i + 1].norm1 : final_norm_);
  at.sum = Var{};
  return linear(p, global_avg_pool(p, std::move(at.normed)), classifier_, Activation::kNone,
                logits_dtype(p));
}

}  // namespace ringfort
