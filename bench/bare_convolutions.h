// The limit of a network that is nearly all convolutions: its convolution products alone, by the
// same functions and plans as the network, on prepared filters, without epilogues, norms,
// activations or anything between.
#pragma once

#include <memory>
#include <vector>

#include "engine/tensor.h"
#include "kernels/conv2d.h"
#include "models/preact_resnet.h"
#include "models/resnet.h"

namespace ringfort::bench {

class BareConvolutions {
 public:
  // For `model`, a preact_resnet18, wrn_34_10 or resnet50.
  BareConvolutions(Exec& exec, Pool& pool, Model& model, int64_t batch, Dtype dtype);

  // Runs every product once, on a GPU several times.
  void run();

  // Median seconds over the runs so far, summed over the network's convolutions.
  double input_gradient() const;  // forward and all input gradients: one step of an attack
  double training() const;        // forward, input gradients without the first, filter gradients

  // Floating-point operations of the same, a multiplication and an addition counted as two.
  double input_gradient_operations() const;
  double training_operations() const;

 private:
  struct Convolution {
    ConvOptions options;
    Filter filter;
    PreparedFilter prepared;
    Tensor w, dw;
    View x, y, dx, dy;
    std::vector<double> forward, dgrad, wgrad;  // seconds of each run
  };
  // Each says the shape of what it computes.
  Shape add(Pass& p, Shape x, int64_t out, int kernel, int stride);
  void add_blocks(Pass& p, Shape x, int64_t width, const PreActDesign& design);
  void add_blocks(Pass& p, Shape x, int64_t width, const ResNetDesign& design);

  Exec& exec_;
  Pool& pool_;
  Dtype dtype_;
  Tensor x_, dx_, y_, dy_;  // shared by all convolutions, as large as the largest needs
  std::vector<std::unique_ptr<Convolution>> convolutions_;
};

}  // namespace ringfort::bench
