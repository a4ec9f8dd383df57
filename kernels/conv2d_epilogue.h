// Epilogues of convolutions, where the product's own kernel does not do them.
#pragma once

#include "kernels/conv2d.h"

namespace ringfort {

// What every backend's product does itself: y = relu?(conv + bias + (accumulate ? y : 0)).
struct ProductEpilogue {
  const View* bias = nullptr;
  bool accumulate = false;
  bool relu = false;
};

// The part of an epilogue that such a product does; a residual is copied to y first.
ProductEpilogue product_epilogue(Exec& exec, View y, const ConvEpilogue& epilogue);

// The rest of it: mask and second output of a y that is otherwise done.
void finish_outputs(Exec& exec, View y, const ConvEpilogue& epilogue);

// All of it. product: what the bare convolution gave; y itself where there is no residual.
// REQUIRES: a bias where there is a ReLU.
void finish_product(Exec& exec, View y, View product, const ConvEpilogue& epilogue);

// dx from the bare product, which is dx itself unless it is to be added.
void finish_dgrad(Exec& exec, View dx, View product, const DgradEpilogue& epilogue);

}  // namespace ringfort
