// Batch norm as the cuDNN backend runs it: its operation graphs (norm_graph_cudnn.cpp), apart so
// that a test can ask cuDNN for their engines without a GPU, and the choice between them and
// kernels of ours (norm_cudnn.cpp).
#pragma once

#include "kernels/graph_cudnn.h"

namespace ringfort {

struct NormProblem {
  bool backward = false;
  Dtype dtype = Dtype::kFloat32;  // of activations and their gradients
  Shape x;
  bool relu = false, residual = false, mask = false;  // of the forward

  std::array<int64_t, 9> key() const;  // for look-up
  std::string text() const;            // "norm bfloat16 n128 h32 w32 c64 relu mask"
};

// Graph and the tensors whose data a run needs; id 0: the graph has no such tensor.
struct NormGraph {
  CudnnGraph graph;
  CudnnTensor x, gamma, mean, inv_std;                 // of both
  CudnnTensor y, beta, epsilon, residual, mask, zero;  // forward
  CudnnTensor dx, dgamma, dbeta, dy;                   // backward
};

NormGraph make_norm_graph(const NormProblem& problem);

}  // namespace ringfort
