// MnistNet, with which Wong et al. ("Fast is better than free", 2020) train on MNIST: two 4x4
// convolutions of stride 2 with width and 2 width channels, a hidden layer of 100 units, ReLU after
// each, and the classifier. No norm. Its PyTorch definition is a sequence of layers without names,
// so parameters are called by their numbers in it.
#pragma once

#include "models/layers.h"
#include "models/model.h"

namespace ringfort {

class MnistNet final : public Model {
 public:
  MnistNet(ModelSpec spec, Dtype master);

 private:
  Var body(Pass& p, Var x) override;

  ConvParams conv1_, conv2_;
  LinearParams hidden_, classifier_;
};

}  // namespace ringfort
