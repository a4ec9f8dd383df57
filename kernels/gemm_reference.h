// Matrix product by its definition: a template on the scalar that accumulates in the scalar. The
// specification that every other implementation is tested against, and what float64 networks run
// on.
#pragma once

#include "kernels/gemm.h"

namespace ringfort {

template <class S>
void gemm_reference(Exec& exec, View c, View a, View b, const GemmOptions& options) {
  const int64_t rows = c.shape.n, columns = c.shape.c;
  const int64_t inner = options.transpose_a ? a.shape.n : a.shape.c;
  const S* bias = options.bias ? options.bias->as<S>() : nullptr;
  const auto a_at = [&](int64_t m, int64_t k) {
    return a.as<S>()[options.transpose_a ? k * a.shape.c + m : m * a.shape.c + k];
  };
  const auto b_at = [&](int64_t k, int64_t n) {
    return b.as<S>()[options.transpose_b ? n * b.shape.c + k : k * b.shape.c + n];
  };
#pragma omp parallel for collapse(2) num_threads(exec.threads())
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t n = 0; n < columns; ++n) {
      S& out = c.as<S>()[m * columns + n];
      S sum = (bias ? bias[n] : S(0)) + (options.beta == 0 ? S(0) : S(options.beta) * out);
      for (int64_t k = 0; k < inner; ++k) sum += a_at(m, k) * b_at(k, n);
      out = options.relu && !(sum > S(0)) ? S(0) : sum;
    }
}

}  // namespace ringfort
