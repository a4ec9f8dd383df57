// The limit of a network that is nearly all convolutions: the convolution products of
// preact_resnet18 alone, by the same functions and plans as the network, on prepared filters,
// without epilogues, norms, activations or anything between.
#pragma once

#include <memory>
#include <vector>

#include "engine/tensor.h"
#include "kernels/conv2d.h"
#include "models/model.h"

namespace ringfort::bench {

class BareConvolutions {
 public:
  // For `model`, a preact_resnet18, on batches of 32 x 32 images.
  BareConvolutions(Exec& exec, Pool& pool, Model& model, int64_t batch, Dtype dtype);

  // Runs every product once.
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
  void add(Pass& p, Shape x, int64_t out, int kernel, int stride);

  Exec& exec_;
  Pool& pool_;
  Dtype dtype_;
  Tensor x_, y_, dx_, dy_;  // shared by all convolutions, as large as the largest needs
  std::vector<std::unique_ptr<Convolution>> convolutions_;
};

}  // namespace ringfort::bench
