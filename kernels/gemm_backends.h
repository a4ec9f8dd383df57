// The libraries that serve gemm(): gemm.cpp has checked the arguments.
#pragma once

#include "kernels/gemm.h"

namespace ringfort {

void gemm_onednn(Exec& exec, View c, View a, View b, const GemmOptions& options);
void gemm_cuda(Exec& exec, View c, View a, View b, const GemmOptions& options);

}  // namespace ringfort
