// Convolution on a CUDA device: conv2d.cpp has checked the arguments. Builds without cuDNN have
// conv2d_no_cudnn.cpp, which says so.
#pragma once

#include "kernels/conv2d.h"

namespace ringfort {

void conv2d_forward_cuda(Exec& exec, View y, View x, const Filter& filter, ConvOptions options,
                         const ConvEpilogue& epilogue);
void conv2d_dgrad_cuda(Exec& exec, View dx, View dy, const Filter& filter, ConvOptions options,
                       const DgradEpilogue& epilogue);
void conv2d_wgrad_cuda(Exec& exec, View dw, View x, View dy, ConvOptions options, bool accumulate);

}  // namespace ringfort
