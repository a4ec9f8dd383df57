#include "kernels/conv2d_cudnn.h"

namespace ringfort {
namespace {

// Pointwise operations one after the other on the sums of a product, in float32; the last of
// `stages` writes the result, and that is where they are rounded.
class Chain {
 public:
  Chain(CudnnGraph& graph, const Shape& shape, CudnnTensor result, int stages)
      : graph_(graph), shape_(shape), result_(result), left_(stages), sums_(next()) {}

  CudnnTensor sums() const { return sums_; }
  void apply(cudnnPointwiseMode_t mode, CudnnTensor operand = {}) {
    const CudnnTensor to = next();
    graph_.pointwise(mode, to, sums_, operand);
    sums_ = to;
  }

 private:
  CudnnTensor next() {
    return left_-- == 0 ? result_ : graph_.virtual_tensor(shape_, Dtype::kFloat32);
  }

  CudnnGraph& graph_;
  Shape shape_;
  CudnnTensor result_;
  int left_;
  CudnnTensor sums_;
};

// normed = relu(scale y + shift), and where it is positive.
void add_normed_output(ConvGraph& g, const ConvProblem& p) {
  g.scale = g.graph.channels(p.y.c, Dtype::kFloat32);
  g.shift = g.graph.channels(p.y.c, Dtype::kFloat32);
  g.normed = g.graph.tensor(p.y, p.result_dtype);
  const CudnnTensor scaled = g.graph.virtual_tensor(p.y, Dtype::kFloat32),
                    shifted = g.graph.virtual_tensor(p.y, Dtype::kFloat32);
  g.graph.pointwise(CUDNN_POINTWISE_MUL, scaled, g.output, g.scale);
  g.graph.pointwise(CUDNN_POINTWISE_ADD, shifted, scaled, g.shift);
  g.graph.pointwise(CUDNN_POINTWISE_RELU_FWD, g.normed, shifted);
}

}  // namespace

ConvProblem cudnn_problem(ConvProblem problem) {
  constexpr int64_t kChannels = 8;  // 16 bytes of bfloat16
  const int64_t channels = problem.x.c;
  if (problem.dtype == Dtype::kBFloat16)
    problem.x.c = problem.filter.c = (channels + kChannels - 1) / kChannels * kChannels;
  const bool wide = problem.x.c != channels;
  if (problem.direction == ConvDirection::kWgrad ||
      (problem.direction == ConvDirection::kDgrad && wide))
    return problem.bare();
  return problem;
}

std::vector<ConvFusion> fusions(const ConvProblem& p) {
  std::vector<ConvFusion> all = {ConvFusion::kAll};
  if (p.mask || p.normed) all.push_back(ConvFusion::kProduct);
  const bool anything =
      p.bias || p.accumulate || p.relu || p.mask || p.normed || p.gate_mask || p.gate_scale;
  // Our kernels have a ReLU after a bias only.
  if (anything && !(p.relu && !p.bias)) all.push_back(ConvFusion::kNone);
  return all;
}

ConvProblem fused_part(const ConvProblem& problem, ConvFusion fusion) {
  if (fusion == ConvFusion::kNone) return problem.bare();
  ConvProblem part = problem;
  if (fusion == ConvFusion::kProduct) part.mask = part.normed = part.normed_mask = false;
  return part;
}

std::string_view suffix_of(ConvFusion fusion) {
  return fusion == ConvFusion::kAll       ? ""
         : fusion == ConvFusion::kProduct ? " + outputs"
                                          : " + epilogue";
}

std::optional<std::string> engine_of(std::string_view plan, ConvFusion fusion) {
  if (plan.empty()) return "";
  const std::string_view suffix = suffix_of(fusion);
  // Every name ends with the empty suffix of what fuses all.
  const bool fuses_all = plan.find(" + ") == std::string_view::npos;
  if (!plan.ends_with(suffix) || fuses_all != suffix.empty()) return std::nullopt;
  return std::string(plan.substr(0, plan.size() - suffix.size()));
}

ConvGraph make_conv_graph(const ConvProblem& p) {
  ConvGraph g;
  CudnnGraph& graph = g.graph;
  const auto type = [&](ConvDirection result) {
    return p.direction == result ? p.result_dtype : p.dtype;
  };
  const CudnnTensor x = graph.tensor(p.x, type(ConvDirection::kDgrad));
  const CudnnTensor w = graph.tensor(p.filter, type(ConvDirection::kWgrad));
  const CudnnTensor y = graph.tensor(p.y, type(ConvDirection::kForward));
  const bool forward = p.direction == ConvDirection::kForward;
  const bool dgrad = p.direction == ConvDirection::kDgrad;
  const Shape& shape = forward ? p.y : dgrad ? p.x : p.filter;
  g.output = forward ? y : dgrad ? x : w;
  // cuDNN writes float32 from bfloat16 operands only through a pointwise operation.
  const bool widened = p.direction == ConvDirection::kWgrad && p.dtype != p.result_dtype;
  Chain chain(graph, shape, g.output,
              widened + p.gate_mask + p.gate_scale + p.bias + p.accumulate + p.relu);
  switch (p.direction) {
    case ConvDirection::kForward:
      g.first = x, g.second = w;
      graph.conv_forward(chain.sums(), x, w, p.options);
      break;
    case ConvDirection::kDgrad:
      g.first = y, g.second = w;
      graph.conv_dgrad(chain.sums(), y, w, p.options);
      break;
    case ConvDirection::kWgrad:
      g.first = x, g.second = y;
      graph.conv_wgrad(chain.sums(), x, y, p.options);
      break;
  }
  if (widened) chain.apply(CUDNN_POINTWISE_MUL, g.one = graph.number());
  if (p.gate_mask) chain.apply(CUDNN_POINTWISE_MUL, g.gate_mask = graph.tensor(shape, Dtype::kBit));
  if (p.gate_scale)
    chain.apply(CUDNN_POINTWISE_MUL, g.gate_scale = graph.channels(shape.c, Dtype::kFloat32));
  if (p.bias) chain.apply(CUDNN_POINTWISE_ADD, g.bias = graph.channels(shape.c, Dtype::kFloat32));
  if (p.accumulate)
    chain.apply(CUDNN_POINTWISE_ADD, g.before = graph.tensor(shape, p.result_dtype));
  if (p.relu) chain.apply(CUDNN_POINTWISE_RELU_FWD);

  if (p.normed) add_normed_output(g, p);
  if (p.mask || p.normed_mask) g.zero = graph.number();
  const auto positive = [&](CudnnTensor values) {
    const CudnnTensor mask = graph.tensor(shape, Dtype::kBit);
    graph.pointwise(CUDNN_POINTWISE_CMP_GT, mask, values, g.zero);
    return mask;
  };
  if (p.mask) g.mask = positive(g.output);
  if (p.normed_mask) g.normed_mask = positive(g.normed);
  return g;
}

}  // namespace ringfort
