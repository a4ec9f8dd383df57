// Matrix products on CUDA: cuBLASLt, with bias and ReLU in its epilogue where it offers them for
// the dtypes at hand, else by a pass of our own over the product.
#include <cublasLt.h>

#include <array>
#include <memory>
#include <unordered_map>

#include "kernels/activation.h"
#include "kernels/array_hash.h"
#include "kernels/gemm_backends.h"
#include "kernels/libraries_cuda.h"

namespace ringfort {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;  // NVIDIA's advice for Hopper

void check(cublasStatus_t status, const char* call) {
  require(status == CUBLAS_STATUS_SUCCESS, "{}: {}", call, cublasLtGetStatusString(status));
}

template <class T, cublasStatus_t (*kDestroy)(T)>
struct Destroy {
  void operator()(T handle) const { kDestroy(handle); }
};
template <class T, cublasStatus_t (*kDestroy)(T)>
using Handle = std::unique_ptr<std::remove_pointer_t<T>, Destroy<T, kDestroy>>;
using Operation = Handle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Matrix = Handle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Handle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType_t type_of(Dtype dtype) {
  return dtype == Dtype::kFloat64   ? CUDA_R_64F
         : dtype == Dtype::kFloat32 ? CUDA_R_32F
                                    : CUDA_R_16BF;
}

struct GemmPlan {
  Operation operation;
  Matrix a, b, c;
  cublasLtMatmulAlgo_t algorithm;
  bool fused;  // bias and ReLU are in the epilogue
};

using GemmKey = std::array<int64_t, 6>;
struct GemmCache {
  std::unordered_map<GemmKey, GemmPlan, ArrayHash> plans;
};

// A row-major matrix is the transposed column-major one, which cuBLASLt computes with.
Matrix matrix(const View& view) {
  cublasLtMatrixLayout_t raw = nullptr;
  check(cublasLtMatrixLayoutCreate(&raw, type_of(view.dtype), static_cast<uint64_t>(view.shape.c),
                                   static_cast<uint64_t>(view.shape.n), view.shape.c),
        "cublasLtMatrixLayoutCreate");
  return Matrix(raw);
}

Operation operation(const View& a, const GemmOptions& options, bool fused, bool tf32) {
  const bool wide = a.dtype == Dtype::kFloat64;
  cublasLtMatmulDesc_t raw = nullptr;
  check(cublasLtMatmulDescCreate(&raw,
                                 wide   ? CUBLAS_COMPUTE_64F
                                 : tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                        : CUBLAS_COMPUTE_32F,
                                 wide ? CUDA_R_64F : CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  Operation made(raw);
  const auto set = [&](cublasLtMatmulDescAttributes_t name, const auto& value) {
    check(cublasLtMatmulDescSetAttribute(raw, name, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  };
  // C' = op(B)' op(A)': the operands change places.
  set(CUBLASLT_MATMUL_DESC_TRANSA, options.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, options.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (!fused) return made;
  const bool bias = options.bias != nullptr;
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, bias && options.relu ? CUBLASLT_EPILOGUE_RELU_BIAS
                                     : bias               ? CUBLASLT_EPILOGUE_BIAS
                                     : options.relu       ? CUBLASLT_EPILOGUE_RELU
                                                          : CUBLASLT_EPILOGUE_DEFAULT);
  if (bias) set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(options.bias->dtype));
  return made;
}

// False where cuBLASLt offers nothing for these dtypes with this epilogue.
bool find_algorithm(cublasLtHandle_t library, GemmPlan& plan) {
  cublasLtMatmulPreference_t raw = nullptr;
  check(cublasLtMatmulPreferenceCreate(&raw), "cublasLtMatmulPreferenceCreate");
  const Preference preference(raw);
  check(cublasLtMatmulPreferenceSetAttribute(raw, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &kWorkspace, sizeof kWorkspace),
        "cublasLtMatmulPreferenceSetAttribute");
  // Split-K with atomics would change the last bits from run to run.
  const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK & ~CUBLASLT_REDUCTION_SCHEME_INPLACE;
  check(cublasLtMatmulPreferenceSetAttribute(raw, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                             &schemes, sizeof schemes),
        "cublasLtMatmulPreferenceSetAttribute");
  cublasLtMatmulHeuristicResult_t result;
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(library, plan.operation.get(), plan.b.get(), plan.a.get(),
                                     plan.c.get(), plan.c.get(), raw, 1, &result, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || found == 0) return false;
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  plan.algorithm = result.algo;
  return true;
}

GemmPlan make_plan(cublasLtHandle_t library, const View& c, const View& a, const View& b,
                   const GemmOptions& options, bool tf32) {
  for (const bool fused : {true, false}) {
    if (!fused && options.bias == nullptr) break;  // only a bias may be refused
    GemmPlan plan{operation(a, options, fused, tf32), matrix(a), matrix(b), matrix(c), {}, fused};
    if (find_algorithm(library, plan)) return plan;
  }
  fail("cuBLASLt has no matrix product for {} times {} into {}", to_string(a.shape),
       to_string(b.shape), to_string(c.shape));
}

}  // namespace

void gemm_cuda(Exec& exec, View c, View a, View b, const GemmOptions& options) {
  GpuLibraries& gpu = libraries(exec);
  auto& plans = gpu.cache<GemmCache>().plans;
  const int64_t flags = options.transpose_a | options.transpose_b << 1 |
                        (options.bias != nullptr) << 2 | options.relu << 3 | exec.tf32() << 4;
  const GemmKey key = {c.shape.n,
                       options.transpose_a ? a.shape.n : a.shape.c,
                       c.shape.c,
                       static_cast<int64_t>(a.dtype),
                       static_cast<int64_t>(c.dtype),
                       flags};
  auto found = plans.find(key);
  if (found == plans.end())
    found = plans
                .emplace(key, make_plan(gpu.cublas(), c, a, b, options,
                                        exec.tf32() && a.dtype == Dtype::kFloat32))
                .first;
  const GemmPlan& plan = found->second;
  if (plan.fused && options.bias)
    check(cublasLtMatmulDescSetAttribute(plan.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                         &options.bias->data, sizeof(void*)),
          "cublasLtMatmulDescSetAttribute");
  const float one = 1, beta = options.beta;
  const double wide_one = 1, wide_beta = static_cast<double>(options.beta);
  const bool wide = a.dtype == Dtype::kFloat64;
  check(cublasLtMatmul(gpu.cublas(), plan.operation.get(),
                       wide ? static_cast<const void*>(&wide_one) : &one, b.data, plan.b.get(),
                       a.data, plan.a.get(), wide ? static_cast<const void*>(&wide_beta) : &beta,
                       c.data, plan.c.get(), c.data, plan.c.get(), &plan.algorithm,
                       exec.scratch(static_cast<int64_t>(kWorkspace)), kWorkspace, gpu.stream()),
        "cublasLtMatmul");
  if (!plan.fused) add_bias(exec, c, *options.bias, options.relu);
}

}  // namespace ringfort
