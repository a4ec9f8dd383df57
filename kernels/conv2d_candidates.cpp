#include "kernels/conv2d_candidates.h"

#include <bit>

namespace ringfort {
namespace {

std::string_view layout_name(Layout layout) {
  return layout == Layout::kBlocked16 ? "blocked16" : "channels_last";
}

std::string_view direction_name(ConvDirection direction) {
  switch (direction) {
    case ConvDirection::kForward:
      return "forward";
    case ConvDirection::kDgrad:
      return "dgrad";
    case ConvDirection::kWgrad:
      return "wgrad";
  }
  return "unknown";
}

// oneDNN 2.6 on AVX2: the filter gradient of a strided 1x1 convolution is wrong where the channels
// of a channels-last input do not fill its vectors. In its own format they are padded.
bool is_wrong_as_viewed(const ConvProblem& problem) {
  return problem.direction == ConvDirection::kWgrad && !conv2d_prefers_blocks() &&
         problem.filter.h == 1 && problem.filter.w == 1 && problem.options.stride > 1 &&
         problem.x.c % 8 != 0;
}

}  // namespace

ConvProblem::Key ConvProblem::key() const {
  const auto number = [](auto value) { return static_cast<int64_t>(value); };
  int64_t fused = 0;
  for (const bool part :
       {bias, accumulate, relu, mask, normed, normed_mask, gate_mask, gate_scale, tf32})
    fused = fused << 1 | number(part);
  return {number(direction),
          number(dtype),
          number(result_dtype),
          number(x_layout),
          number(y_layout),
          x.n,
          x.h,
          x.w,
          x.c,
          filter.n,
          filter.h,
          filter.w,
          filter.c,
          y.h,
          y.w,
          options.stride,
          options.pad,
          options.end(),
          fused,
          threads,
          force_id};
}

ConvProblem ConvProblem::bare() const {
  ConvProblem product = *this;
  product.bias = product.accumulate = product.relu = false;
  product.mask = product.normed = product.normed_mask = false;
  product.gate_mask = product.gate_scale = false;
  return product;
}

std::string ConvProblem::text() const {
  const auto samples = std::bit_ceil(static_cast<uint64_t>(x.n));
  std::string text =
      fmt::format("{} {} n{} h{} w{} c{} -> o{} k{}", direction_name(direction),
                  tf32 ? "tf32" : to_string(dtype), samples, x.h, x.w, x.c, filter.n, filter.h);
  if (filter.w != filter.h) text += fmt::format("x{}", filter.w);
  text += fmt::format(" s{} p{}", options.stride, options.pad);
  if (options.end() != options.pad) text += fmt::format("-{}", options.end());
  text += fmt::format(" {}", layout_name(x_layout));
  if (y_layout != x_layout) text += fmt::format("-{}", layout_name(y_layout));
  if (result_dtype != dtype && direction != ConvDirection::kWgrad)
    text += fmt::format(" to {}", to_string(result_dtype));
  if (bias) text += " bias";
  if (accumulate) text += " accumulate";
  if (relu) text += " relu";
  if (mask) text += " mask";
  if (normed) text += normed_mask ? " normed+mask" : " normed";
  if (gate_mask) text += " gate-mask";
  if (gate_scale) text += " gate-scale";
  return text + fmt::format(" threads{}", threads);
}

double ConvProblem::gflop() const {
  return 2e-9 * static_cast<double>(y.count()) * static_cast<double>(filter.per_sample());
}

std::vector<ConvCandidate> conv_candidates(const ConvProblem& problem) {
  if (is_wrong_as_viewed(problem)) return {{.name = "direct-any", .format = ConvFormat::kAny}};
  const bool blockable_x = problem.x.c % 16 == 0, blockable_y = problem.y.c % 16 == 0;
  const bool blocked =
      problem.x_layout == Layout::kBlocked16 && problem.y_layout == Layout::kBlocked16;
  const bool unit_stride = problem.options.stride == 1;
  std::vector<ConvCandidate> candidates = {{.name = "direct"}};
  const bool few_to_blocks =
      problem.x.c < 16 && problem.direction != ConvDirection::kDgrad;  // the first layer
  if (!blocked && blockable_y && (blockable_x || few_to_blocks))
    candidates.push_back({.name = "direct-blocked", .format = ConvFormat::kBlocked});
  if (!blocked || !conv2d_prefers_blocks())
    candidates.push_back({.name = "direct-any", .format = ConvFormat::kAny});
  if (problem.direction == ConvDirection::kDgrad && problem.x.c < 16 && blockable_y) {
    candidates.push_back({.name = "direct-padded", .padded = true, .format = ConvFormat::kBlocked});
    if (unit_stride)
      candidates.push_back({.name = "direct-rotated-padded",
                            .rotated = true,
                            .padded = true,
                            .format = ConvFormat::kBlocked});
  }
  if (problem.direction == ConvDirection::kDgrad && unit_stride && blockable_x && blockable_y)
    candidates.push_back(
        {.name = "direct-rotated", .rotated = true, .format = ConvFormat::kBlocked});
  if (problem.dtype == Dtype::kFloat32 && unit_stride && problem.filter.h == 3 &&
      problem.filter.w == 3 && blockable_x && blockable_y)
    candidates.push_back({.name = "winograd",
                          .winograd = true,
                          .rotated = problem.direction == ConvDirection::kDgrad,
                          .format = ConvFormat::kBlocked});
  return candidates;
}

ConvProblem forward_problem(const View& y, const View& x, const Filter& filter, ConvOptions options,
                            const ProductEpilogue& epilogue) {
  return {.direction = ConvDirection::kForward,
          .dtype = x.dtype,
          .result_dtype = y.dtype,
          .x_layout = x.layout,
          .y_layout = y.layout,
          .x = x.shape,
          .filter = filter.w.shape,
          .y = y.shape,
          .options = options,
          .bias = epilogue.bias != nullptr,
          .accumulate = epilogue.accumulate,
          .relu = epilogue.relu};
}

ConvProblem forward_problem(const View& y, const View& x, const Filter& filter, ConvOptions options,
                            const ConvEpilogue& e) {
  ConvProblem problem = forward_problem(y, x, filter, options,
                                        ProductEpilogue{e.bias, e.residual != nullptr, e.relu});
  problem.mask = e.mask != nullptr;
  problem.normed = e.normed != nullptr;
  problem.normed_mask = problem.normed && e.normed->mask.data != nullptr;
  return problem;
}

ConvProblem dgrad_problem(const View& dx, const View& dy, const Filter& filter, ConvOptions options,
                          const DgradEpilogue& epilogue) {
  return {.direction = ConvDirection::kDgrad,
          .dtype = dy.dtype,
          .result_dtype = dx.dtype,
          .x_layout = dx.layout,
          .y_layout = dy.layout,
          .x = dx.shape,
          .filter = filter.w.shape,
          .y = dy.shape,
          .options = options,
          .accumulate = epilogue.accumulate,
          .gate_mask = epilogue.gate.mask.data != nullptr,
          .gate_scale = epilogue.gate.scale.data != nullptr};
}

ConvProblem wgrad_problem(const View& dw, const View& x, const View& dy, ConvOptions options,
                          bool accumulate) {
  return {.direction = ConvDirection::kWgrad,
          .dtype = x.dtype,
          .result_dtype = dw.dtype,
          .x_layout = x.layout,
          .y_layout = dy.layout,
          .x = x.shape,
          .filter = dw.shape,
          .y = dy.shape,
          .options = options,
          .accumulate = accumulate};
}

}  // namespace ringfort
