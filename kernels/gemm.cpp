#include "kernels/gemm.h"

#include "kernels/gemm_backends.h"
#include "kernels/gemm_reference.h"

namespace ringfort {
namespace {

struct MatrixSize {
  int64_t rows, columns;
};

MatrixSize size_of(const View& matrix, bool transpose, const char* name) {
  require(matrix.shape.h == 1 && matrix.shape.w == 1,
          "gemm: {} must be a matrix (rows, 1, 1, columns), not {}", name, to_string(matrix.shape));
  return transpose ? MatrixSize{matrix.shape.c, matrix.shape.n}
                   : MatrixSize{matrix.shape.n, matrix.shape.c};
}

void check_shapes(const View& c, const View& a, const View& b, const GemmOptions& options) {
  const MatrixSize size_a = size_of(a, options.transpose_a, "A"),
                   size_b = size_of(b, options.transpose_b, "B");
  const MatrixSize size_c = size_of(c, false, "C");
  require(size_a.columns == size_b.rows,
          "gemm: op(A) is {} x {}, op(B) is {} x {}: the inner sizes differ", size_a.rows,
          size_a.columns, size_b.rows, size_b.columns);
  require(size_c.rows == size_a.rows && size_c.columns == size_b.columns,
          "gemm: op(A) op(B) is {} x {}, C is {} x {}", size_a.rows, size_b.columns, size_c.rows,
          size_c.columns);
  require(size_a.columns > 0, "gemm: the inner size is 0");
  require(options.beta == 0 || options.beta == 1, "gemm: beta is {}; it must be 0 or 1",
          options.beta);
  require(!options.bias || options.bias->count() == size_c.columns,
          "gemm: {} biases for {} columns", options.bias ? options.bias->count() : 0,
          size_c.columns);
}

// float64 throughout; or A and B both float32 or both bfloat16, with C the same or float32.
void check_dtypes(const View& c, const View& a, const View& b, const View* bias) {
  require(a.dtype == b.dtype, "gemm: A is {}, B is {}; both must be the same", to_string(a.dtype),
          to_string(b.dtype));
  require(a.dtype == Dtype::kFloat64 || a.dtype == Dtype::kFloat32 || a.dtype == Dtype::kBFloat16,
          "gemm: no implementation for {}", to_string(a.dtype));
  require(c.dtype == a.dtype || (a.dtype == Dtype::kBFloat16 && c.dtype == Dtype::kFloat32),
          "gemm: no implementation for {} times {} into {}", to_string(a.dtype), to_string(b.dtype),
          to_string(c.dtype));
  const Dtype bias_dtype = a.dtype == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
  require(!bias || bias->dtype == bias_dtype, "gemm: the bias is {}, it must be {}",
          to_string(bias ? bias->dtype : bias_dtype), to_string(bias_dtype));
}

}  // namespace

void gemm(Exec& exec, View c, View a, View b, const GemmOptions& options) {
  check_shapes(c, a, b, options);
  check_dtypes(c, a, b, options.bias);
  if (c.count() == 0 || exec.planned()) return;
  if (exec.on_cuda()) return gemm_cuda(exec, c, a, b, options);
  if (a.dtype == Dtype::kFloat64) return gemm_reference<double>(exec, c, a, b, options);
  gemm_onednn(exec, c, a, b, options);
}

}  // namespace ringfort
