// ResNets with the activation after the sum (He et al., "Deep Residual Learning for Image
// Recognition", 2016): relu(F(x) + shortcut(x)), every convolution followed by a batch norm, the
// shortcut a 1x1 convolution with a norm where shape or stride changes.
//
// resnet18: for small images. The stem is one 3x3 convolution of stride 1 without pooling, blocks
// have two 3x3 convolutions; stages of 2, 2, 2, 2 blocks. Parameter names of kuangliu's
// pytorch-cifar ("layer1.0.shortcut.0", "linear"), which the adversarial-training papers build on;
// PyTorch's default initialisation, as there.
//
// resnet50: for photographs. The stem is a 7x7 convolution of stride 2 and a 3x3 max pooling of
// stride 2, blocks are bottlenecks 1x1, 3x3, 1x1 with four times the channels at their end; stages
// of 3, 4, 6, 3 blocks. As torchvision has it: the stride in the 3x3 convolution ("v1.5"), its
// names
// ("layer1.0.downsample.0", "fc"), filters from N(0, 2 / fan_out).
#pragma once

#include <array>
#include <string_view>

#include "models/layers.h"
#include "models/model.h"

namespace ringfort {

struct ResNetDesign {
  std::array<int, 4> blocks;  // of each stage; stage s has width << s channels inside its blocks
  bool bottleneck;            // 1x1, 3x3, 1x1 to four times the channels; else 3x3, 3x3
  bool large_images;          // stem 7x7 / 2 and max pooling 3x3 / 2; else 3x3 / 1
  std::string_view shortcut, classifier;  // names
  InitScheme init;
};

inline constexpr ResNetDesign kResNet18 = {{2, 2, 2, 2}, false, false, "shortcut", "linear", {}};
inline constexpr ResNetDesign kResNet50 = {{3, 4, 6, 3}, true, true,
                                           "downsample", "fc", {.filter = Init::kHeFanOut}};

class ResNet final : public Model {
 public:
  ResNet(ModelSpec spec, Dtype master, const ResNetDesign& design);

 private:
  struct ConvNorm {
    ConvParams conv;
    NormParams norm;
  };
  struct Block {
    ConvNorm projection;  // weight kNone where the shortcut is the identity
    std::vector<ConvNorm> layers;
  };
  Block declare(LayerBuilder& build, const std::string& name, int64_t in, int64_t inner,
                int64_t out, int stride) const;
  Var body(Pass& p, Var x) override;

  ResNetDesign design_;
  ConvNorm stem_;
  std::vector<Block> blocks_;
  LinearParams classifier_;
};

}  // namespace ringfort
