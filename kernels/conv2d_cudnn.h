// The operation graph of one convolution with its epilogue, as the cuDNN backend runs it: apart
// from conv2d_cudnn.cpp so that a test can ask cuDNN for its engines without a GPU.
#pragma once

#include "kernels/conv2d_candidates.h"
#include "kernels/graph_cudnn.h"

namespace ringfort {

// Graph and the tensors whose data a run needs; id 0: the graph has no such tensor.
struct ConvGraph {
  CudnnGraph graph;
  CudnnTensor first, second, output;  // operands in the order of conv2d_*: x w y, dy w dx, x dy dw
  CudnnTensor bias;                   // (O)
  CudnnTensor before;                 // what the output held, where it is added to
  CudnnTensor one;                    // a factor given by value, see wgrad
};

ConvGraph make_conv_graph(const ConvProblem& problem);

// The problem that cuDNN is given in place of the caller's. It has no engine for the filter's
// gradient of a bfloat16 stem with 3 channels, so channels are padded with zeros to a multiple of
// 8, which changes no sum; and none that adds to a float32 filter gradient, so that is a pass of
// ours.
ConvProblem cudnn_problem(ConvProblem problem);

}  // namespace ringfort
