// Batch norm of a training pass by one kernel of a library's, on a CUDA device. Both return false,
// and have done nothing, where kernels of ours are to do it: because the library has no engine for
// the shape, or because ours are faster.
#pragma once

#include "kernels/norm.h"

namespace ringfort {

// As batch_norm_forward.
bool batch_norm_forward_cuda(Exec& exec, View y, const NormVectors& norm, View x, View gamma,
                             View beta, const NormEpilogue& epilogue, const View (&scratch)[3],
                             double epsilon);

// As batch_norm_gradients with beta 0 and without ReLU: dy has come through the mask already.
bool batch_norm_gradients_cuda(Exec& exec, View dx, View dbeta, View dgamma, View x, View dy,
                               View gamma, const NormVectors& norm);

}  // namespace ringfort
