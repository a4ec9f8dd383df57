// Convolution on a CPU in float32 and bfloat16, by oneDNN: conv2d.cpp has checked the arguments.
// Several implementations of a product are offered (conv2d_candidates.h), timed once per shape and
// the fastest kept.
#pragma once

#include "kernels/conv2d_epilogue.h"

namespace ringfort {

void conv2d_forward_onednn(Exec& exec, View y, View x, const Filter& filter, ConvOptions options,
                           const ProductEpilogue& epilogue);
void conv2d_dgrad_onednn(Exec& exec, View dx, View dy, const Filter& filter, ConvOptions options);
void conv2d_wgrad_onednn(Exec& exec, View dw, View x, View dy, ConvOptions options,
                         bool accumulate);

}  // namespace ringfort
