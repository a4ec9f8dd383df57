// The Winograd filter transform U = G g G^T of F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2016), written into oneDNN's order. oneDNN's own transform runs
// on one thread and takes longer than the convolution it prepares, which adversarial training would
// pay at every update of the weights.
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace ringfort {

// oneDNN's OBaaIBOIio order: (O/oBo, 6, 6, I/iBi, B, b, i, o) with blocks of i and o of 16
// channels, B blocks of outputs and b blocks of inputs side by side.
struct WinogradOrder {
  int64_t inputs, outputs;              // of the convolution that will run
  int64_t input_blocks, output_blocks;  // b and B
};

// to: 36 x inputs x outputs floats. w (O, 3, 3, I), float32. rotated: the filter of the input
// gradient, w'(i, y, x, o) = w(o, 2 - y, 2 - x, i). REQUIRES: channels are multiples of 16 and fit
// `order`.
void winograd_filter(float* to, const float* w, bool rotated, const WinogradOrder& order,
                     int threads);

}  // namespace ringfort
