// What stands in for matrix products on a CUDA device where no backend was built: a sentence.
#include "kernels/gemm_backends.h"

namespace ringfort {

void gemm_cuda(Exec&, View, View, View, const GemmOptions&) {
  fail("gemm: this build has no CUDA matrix product; use --device cpu");
}

}  // namespace ringfort
