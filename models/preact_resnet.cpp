#include "models/preact_resnet.h"

namespace ringfort {

PreActResNet::PreActResNet(ModelSpec model_spec, Dtype master, const PreActDesign& design)
    : Model(std::move(model_spec), master), design_(design) {
  LayerBuilder build(params(), design.init, spec().auxiliary_norms);
  const PreActNames& names = design.names;
  const int64_t width = spec().width;
  require(spec().height >= 8 && spec().image_width >= 8,
          "model '{}': images must be at least 8 x 8, got {} x {}", spec().name, spec().height,
          spec().image_width);
  require(!design.same_padding || (spec().height % 4 == 0 && spec().image_width % 4 == 0),
          "model '{}': height and width of images must be multiples of 4, got {} x {}", spec().name,
          spec().height, spec().image_width);
  int64_t in = design.stem != 0 ? design.stem : width;
  stem_ = build.conv(std::string(names.stem), spec().channels, in, 3, 1);
  for (int stage = 0; stage < design.stages; ++stage) {
    const int64_t out = width << stage;
    for (int index = 0; index < design.blocks; ++index) {
      const std::string name =
          fmt::format(fmt::runtime(names.block), names.first_stage + stage, index);
      units_.push_back(declare(build, name, in, out, stage > 0 && index == 0 ? 2 : 1));
      in = out;
    }
  }
  final_norm_ = build.norm(std::string(names.final_norm), in, design.momentum);
  classifier_ = build.linear(std::string(names.classifier), in, spec().classes);
}

PreActResNet::Unit PreActResNet::declare(LayerBuilder& build, const std::string& name, int64_t in,
                                         int64_t out, int stride) const {
  const auto named = [&](std::string_view part) { return fmt::format("{}.{}", name, part); };
  const PreActNames& names = design_.names;
  Unit block;
  block.norm1 = build.norm(named(names.norm1), in, design_.momentum);
  if (stride != 1 || in != out)
    block.projection = build.conv(named(names.shortcut), in, out, 1, stride);
  block.conv1 = build.conv(
      named(names.conv1), in, out, 3,
      design_.same_padding && stride == 2 ? ConvOptions{2, 0, 1} : ConvOptions{stride, 1});
  block.norm2 = build.norm(named(names.norm2), out, design_.momentum);
  block.conv2 = build.conv(named(names.conv2), out, out, 3, 1);
  return block;
}

Var PreActResNet::conv_norm_act(Pass& p, Var x, const ConvParams& conv,
                                const NormParams& norm) const {
  if (!design_.silu) return conv_norm_relu(p, std::move(x), conv, norm);
  return silu(p, conv_norm(p, std::move(x), conv, norm));
}

SumAndNormed PreActResNet::conv_act(Pass& p, Var x, const ConvParams& conv, Var* residual,
                                    const NormParams& norm) const {
  if (!design_.silu)
    return residual ? conv2d_add_norm_relu(p, std::move(x), conv, std::move(*residual), norm)
                    : conv2d_with_norm_relu(p, std::move(x), conv, norm);
  Var sum = residual ? conv2d_add(p, std::move(x), conv, std::move(*residual))
                     : conv2d(p, std::move(x), conv);
  Var normed = silu(p, batch_norm(p, sum, norm, Activation::kNone));
  return {std::move(sum), std::move(normed)};
}

// x + conv2(act(norm2(conv1(act(norm1(x)))))), x projected where shape or stride changes, and the
// norm and activation that the next unit begins with. in: x and act(norm1(x)).
SumAndNormed PreActResNet::unit(Pass& p, SumAndNormed in, const Unit& block,
                                const NormParams& next) {
  Var shortcut;
  if (block.projection.weight == ParamId::kNone)
    shortcut = std::move(in.sum);
  else
    shortcut = conv2d(
        p, design_.shortcut == PreActDesign::Shortcut::kAfterNorm ? in.normed : std::move(in.sum),
        block.projection);
  in.sum = Var{};  // not needed any more: the sum below may take its memory
  Var inner = conv_norm_act(p, std::move(in.normed), block.conv1, block.norm2);
  return conv_act(p, std::move(inner), block.conv2, &shortcut, next);
}

Var PreActResNet::body(Pass& p, Var x) {
  SumAndNormed at = conv_act(p, std::move(x), stem_, nullptr, units_.front().norm1);
  for (size_t i = 0; i < units_.size(); ++i)
    at = unit(p, std::move(at), units_[i],
              i + 1 < units_.size() ? units_[i + 1].norm1 : final_norm_);
  at.sum = Var{};
  return linear(p, global_avg_pool(p, std::move(at.normed)), classifier_, Activation::kNone,
                logits_dtype(p));
}

}  // namespace ringfort
