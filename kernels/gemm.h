// Matrix product C = op(A) op(B) + beta C, row-major, with an optional bias per column and ReLU on
// the way out. Served by gemm_reference.h (a template on the scalar) or gemm_onednn.cpp (CPU,
// float32 and bfloat16).
#pragma once

#include "kernels/exec.h"
#include "kernels/view.h"

namespace ringfort {

struct GemmOptions {
  bool transpose_a = false;
  bool transpose_b = false;
  float beta = 0;              // 0 or 1
  const View* bias = nullptr;  // one value per column of C
  bool relu = false;
};

// a, b, c are matrices {rows, 1, 1, columns}; op(A) (M, K), op(B) (K, N), C (M, N). C may be
// float32 where A and B are bfloat16. Errors: shapes that do not fit, dtypes without an
// implementation.
void gemm(Exec& exec, View c, View a, View b, const GemmOptions& options = {});

}  // namespace ringfort
