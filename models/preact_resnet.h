// PreActResNet-18 (He et al., "Identity Mappings in Deep Residual Networks", 2016) with the CIFAR
// stem: a 3x3 convolution, four stages of two blocks with width, 2, 4 and 8 width channels, a final
// norm-ReLU, global average pooling and a linear classifier.
//
// Two networks go by this name in the adversarial-training literature. They differ in where a
// block's projection shortcut starts: after the block's first norm-ReLU (He et al.; Rice et al.
// 2020), or from its raw input (the code of Wong et al. 2020). Both are here under their own names.
#pragma once

#include "models/layers.h"
#include "models/model.h"

namespace ringfort {

class PreActResNet final : public Model {
 public:
  enum class Shortcut { kAfterNorm, kRawInput };
  PreActResNet(ModelSpec spec, Dtype master, Shortcut shortcut);

 private:
  struct Unit {
    NormParams norm1, norm2;
    ConvParams conv1, conv2;
    ConvParams projection;  // weight kNone where the shortcut is the identity
  };
  Var body(Pass& p, Var x) override;
  SumAndNormed unit(Pass& p, SumAndNormed in, const Unit& block, const NormParams& next);

  Shortcut shortcut_;
  ConvParams stem_;
  std::vector<Unit> units_;
  NormParams final_norm_;
  LinearParams classifier_;
};

}  // namespace ringfort
