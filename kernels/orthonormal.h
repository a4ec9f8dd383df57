// Orthonormal columns, by modified Gram-Schmidt, of several matrices in one launch.
#pragma once

#include "kernels/exec.h"

namespace ringfort {

// A row-major matrix in a flat buffer.
struct MatrixAt {
  int64_t first = 0, rows = 0, columns = 0;
};

// Each column minus its projections on those before it, then of length 1. A column that depends on
// those before it, of which nothing but rounding is left, becomes 0.
// matrices: on the device; longest: rows x columns of the largest.
void orthonormalise(Exec& exec, const MatrixAt* matrices, int64_t count, int64_t longest,
                    float* values);

}  // namespace ringfort
