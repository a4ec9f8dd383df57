// Convolution on a CUDA device: conv2d.cpp has checked the arguments. No build has it yet:
// conv2d_no_cudnn.cpp says so.
#pragma once

#include "kernels/conv2d.h"

namespace ringfort {

void conv2d_forward_cuda(Exec& exec, View y, View x, const Filter& filter, ConvOptions options,
                         ConvEpilogue epilogue);
void conv2d_dgrad_cuda(Exec& exec, View dx, View dy, const Filter& filter, ConvOptions options);
void conv2d_wgrad_cuda(Exec& exec, View dw, View x, View dy, ConvOptions options, bool accumulate);

}  // namespace ringfort
