#include "kernels/norm_graph_cudnn.h"

namespace ringfort {
namespace {

// The forward's output, after what is fused with it; the operations between are in float32.
void add_output(NormGraph& g, const NormProblem& p) {
  CudnnGraph& graph = g.graph;
  const auto between = [&] { return graph.virtual_tensor(p.x, Dtype::kFloat32); };
  g.y = graph.tensor(p.x, p.dtype);
  CudnnTensor normed = p.relu ? between() : g.y;
  g.beta = graph.channels(p.x.c, Dtype::kFloat32);
  g.epsilon = graph.number();
  graph.batch_norm({normed, g.mean, g.inv_std, g.x, g.gamma, g.beta, g.epsilon});
  if (p.residual) {
    g.residual = graph.tensor(p.x, p.dtype);
    const CudnnTensor sum = between();
    graph.pointwise(CUDNN_POINTWISE_ADD, sum, normed, g.residual);
    normed = sum;
  }
  if (p.relu) graph.pointwise(CUDNN_POINTWISE_RELU_FWD, g.y, normed);
  if (p.mask) {
    g.zero = graph.number();
    g.mask = graph.tensor(p.x, Dtype::kBit);
    graph.pointwise(CUDNN_POINTWISE_CMP_GT, g.mask, g.y, g.zero);
  }
}

}  // namespace

std::array<int64_t, 9> NormProblem::key() const {
  return {backward, static_cast<int64_t>(dtype), x.n, x.h, x.w, x.c, relu, residual, mask};
}

std::string NormProblem::text() const {
  return fmt::format("norm{} {} n{} h{} w{} c{}{}{}{}", backward ? " backward" : "",
                     to_string(dtype), x.n, x.h, x.w, x.c, residual ? " residual" : "",
                     relu ? " relu" : "", mask ? " mask" : "");
}

NormGraph make_norm_graph(const NormProblem& p) {
  NormGraph g;
  CudnnGraph& graph = g.graph;
  const auto vector = [&] { return graph.channels(p.x.c, Dtype::kFloat32); };
  g.x = graph.tensor(p.x, p.dtype);
  g.gamma = vector();
  g.mean = vector();
  g.inv_std = vector();
  if (!p.backward) {
    add_output(g, p);
    return g;
  }
  g.dy = graph.tensor(p.x, p.dtype);
  g.dx = graph.tensor(p.x, p.dtype);
  g.dgamma = vector();
  g.dbeta = vector();
  graph.batch_norm_backward({g.dx, g.dgamma, g.dbeta, g.x, g.dy, g.mean, g.inv_std, g.gamma});
  return g;
}

}  // namespace ringfort
