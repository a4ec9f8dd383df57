// Matrix products on a CPU in float32 and bfloat16: oneDNN's matmul, created once per size and
// kind.
#include <omp.h>

#include <array>
#include <unordered_map>

#include "kernels/gemm_backends.h"
#include "kernels/onednn.h"

namespace ringfort {
namespace {

using dnnl::memory;

// {rows, inner, columns, dtype of A and B, dtype of C, flags, threads}
using GemmKey = std::array<int64_t, 7>;
using GemmCache = std::unordered_map<GemmKey, Sequence, ArrayHash>;

GemmKey key_for(const Exec& exec, const View& c, const View& a, const GemmOptions& options) {
  const int64_t inner = options.transpose_a ? a.shape.n : a.shape.c;
  const int64_t flags = options.transpose_a | options.transpose_b << 1 | (options.beta != 0) << 2 |
                        (options.bias != nullptr) << 3 | options.relu << 4;
  return {c.shape.n,
          inner,
          c.shape.c,
          static_cast<int64_t>(a.dtype),
          static_cast<int64_t>(c.dtype),
          flags,
          exec.threads()};
}

memory::desc matrix(Dtype dtype, int64_t rows, int64_t columns, bool transposed = false) {
  return {{rows, columns},
          onednn_type(dtype),
          transposed ? memory::format_tag::ba : memory::format_tag::ab};
}

Sequence build(OneDnn& library, const GemmKey& key, const View& c, const View& a,
               const GemmOptions& options) {
  const auto [rows, inner, columns] = std::array{key[0], key[1], key[2]};
  const memory::desc a_desc = matrix(a.dtype, rows, inner, options.transpose_a);
  const memory::desc b_desc = matrix(a.dtype, inner, columns, options.transpose_b);
  const memory::desc c_desc = matrix(c.dtype, rows, columns);
  const memory::desc bias_desc = matrix(Dtype::kFloat32, 1, columns);
  const dnnl::matmul::desc operation = options.bias
                                           ? dnnl::matmul::desc(a_desc, b_desc, bias_desc, c_desc)
                                           : dnnl::matmul::desc(a_desc, b_desc, c_desc);
  const dnnl::matmul::primitive_desc description(
      operation, epilogue_attributes(options.beta != 0, options.relu), library.engine());
  Sequence sequence(library.engine());
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, sequence.at(Base::kFirst, a_desc)},
      {DNNL_ARG_WEIGHTS, sequence.at(Base::kSecond, b_desc)},
      {DNNL_ARG_DST, sequence.at(Base::kOutput, c_desc)}};
  if (options.bias) arguments[DNNL_ARG_BIAS] = sequence.at(Base::kBias, bias_desc);
  sequence.add(dnnl::matmul(description), description, std::move(arguments));
  return sequence;
}

}  // namespace

void gemm_onednn(Exec& exec, View c, View a, View b, const GemmOptions& options) {
  if (FloatCopies::needed(a.dtype))
    return in_float32(exec, a, b, c, options.beta != 0, [&](View wide_a, View wide_b, View wide_c) {
      gemm_onednn(exec, wide_c, wide_a, wide_b, options);
    });
  omp_set_num_threads(exec.threads());
  OneDnn& library = exec.onednn();
  GemmCache& cache = library.cache<GemmCache>();
  const GemmKey key = key_for(exec, c, a, options);
  with_onednn("gemm", [&] {
    auto found = cache.find(key);
    if (found == cache.end()) found = cache.emplace(key, build(library, key, c, a, options)).first;
    Sequence& sequence = found->second;
    sequence.run(library.stream(),
                 {a.data, b.data, c.data, options.bias ? options.bias->data : nullptr,
                  exec.scratch(sequence.scratch_bytes())});
  });
}

}  // namespace ringfort
