#include "models/resnet.h"

namespace ringfort {

ResNet::ResNet(ModelSpec model_spec, Dtype master, const ResNetDesign& design)
    : Model(std::move(model_spec), master), design_(design) {
  require(spec().height >= 8 && spec().image_width >= 8,
          "model '{}': images must be at least 8 x 8, got {} x {}", spec().name, spec().height,
          spec().image_width);
  LayerBuilder build(params(), design.init, spec().auxiliary_norms);
  const int64_t width = spec().width;
  const ConvOptions stem = design.large_images ? ConvOptions{2, 3} : ConvOptions{1, 1};
  stem_.conv = build.conv("conv1", spec().channels, width, design.large_images ? 7 : 3, stem);
  stem_.norm = build.norm("bn1", width);
  int64_t in = width;
  for (size_t stage = 0; stage < design.blocks.size(); ++stage) {
    const int64_t inner = width << stage, out = design.bottleneck ? 4 * inner : inner;
    for (int index = 0; index < design.blocks[stage]; ++index) {
      const int stride = stage > 0 && index == 0 ? 2 : 1;
      blocks_.push_back(
          declare(build, fmt::format("layer{}.{}", stage + 1, index), in, inner, out, stride));
      in = out;
    }
  }
  classifier_ = build.linear(std::string(design.classifier), in, spec().classes);
}

ResNet::Block ResNet::declare(LayerBuilder& build, const std::string& name, int64_t in,
                              int64_t inner, int64_t out, int stride) const {
  Block block;
  if (stride != 1 || in != out) {
    const std::string shortcut = fmt::format("{}.{}", name, design_.shortcut);
    block.projection.conv = build.conv(shortcut + ".0", in, out, 1, stride);
    block.projection.norm = build.norm(shortcut + ".1", out);
  }
  const auto layer = [&](int64_t from, int64_t to, int kernel, int layer_stride) {
    const size_t number = block.layers.size() + 1;
    ConvNorm& added = block.layers.emplace_back();
    added.conv = build.conv(fmt::format("{}.conv{}", name, number), from, to, kernel, layer_stride);
    added.norm = build.norm(fmt::format("{}.bn{}", name, number), to);
  };
  if (design_.bottleneck) {
    layer(in, inner, 1, 1);
    layer(inner, inner, 3, stride);
    layer(inner, out, 1, 1);
  } else {
    layer(in, out, 3, stride);
    layer(out, out, 3, 1);
  }
  return block;
}

Var ResNet::body(Pass& p, Var x) {
  x = conv_norm_relu(p, std::move(x), stem_.conv, stem_.norm);
  if (design_.large_images) x = max_pool(p, std::move(x), {3, 2, 1});
  for (const Block& block : blocks_) {
    Var shortcut = block.projection.conv.weight == ParamId::kNone
                       ? x
                       : conv_norm(p, x, block.projection.conv, block.projection.norm);
    for (size_t i = 0; i + 1 < block.layers.size(); ++i)
      x = conv_norm_relu(p, std::move(x), block.layers[i].conv, block.layers[i].norm);
    const ConvNorm& last = block.layers.back();
    x = conv_norm_add_relu(p, std::move(x), last.conv, last.norm, std::move(shortcut));
  }
  return linear(p, global_avg_pool(p, std::move(x)), classifier_, Activation::kNone,
                logits_dtype(p));
}

}  // namespace ringfort
