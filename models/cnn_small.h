// CnnSmall: three 3x3 convolutions with bias and ReLU (width, 2 width, 4 width channels; strides 1,
// 2, 2), a hidden linear layer of 8 width units and the classifier: what a CPU trains on
// Fashion-MNIST in two minutes. No norm, so the batch-norm mode makes no difference to it.
#pragma once

#include "models/layers.h"
#include "models/model.h"

namespace ringfort {

class CnnSmall final : public Model {
 public:
  CnnSmall(ModelSpec spec, Dtype master);

 private:
  Var body(Pass& p, Var x) override;

  ConvParams conv1_, conv2_, conv3_;
  LinearParams hidden_, classifier_;
};

}  // namespace ringfort
