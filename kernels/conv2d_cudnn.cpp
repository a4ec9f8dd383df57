// Convolution on CUDA by cuDNN's operation graphs: bias, residual and ReLU in the epilogue, the
// filter's gradient in float32 from bfloat16 operands. Which engine runs a shape is measured once
// and remembered on disk like oneDNN's choices (kernels/plans.h).
#include "kernels/conv2d_cudnn.h"

#include <array>
#include <unordered_map>

#include "kernels/activation.h"
#include "kernels/array_hash.h"
#include "kernels/conv2d_cuda.h"
#include "kernels/device_memory.h"
#include "kernels/libraries_cuda.h"
#include "kernels/plans.h"

namespace ringfort {
namespace {

// A runtime-fused plan takes about a second to compile: only the heuristics' first few are timed.
constexpr int kTimedPlans = 4;
constexpr float kOne = 1.0f;

// Operands in the order of conv2d_*: x w y, dy w dx, x dy dw.
struct Operands {
  View first, second, output;
  const void* bias = nullptr;
};

// What stands in for an operand: with channels of zeros added, or a result that is added
// afterwards.
struct Staged {
  DeviceMemory memory;
  View view;

  void make(Exec& exec, const View& given, const Shape& shape) {
    view = given;
    view.shape = shape;
    memory = allocate_on(exec.device(), view.bytes(), "a convolution's padded operand");
    view.data = memory.get();
  }
  explicit operator bool() const { return memory != nullptr; }
};

struct ConvPlan {
  ConvGraph graph;
  std::optional<CudnnPlan> plan;
  Staged first, second, output;  // empty where the caller's own serves
};

struct ConvCache {
  std::unordered_map<std::array<int64_t, 22>, ConvPlan, ArrayHash> plans;
};

void run_graph(Exec& exec, const ConvGraph& graph, const CudnnPlan& plan,
               const Operands& operands) {
  std::vector<int64_t> ids;
  std::vector<void*> data;
  const auto give = [&](CudnnTensor tensor, const void* pointer) {
    if (tensor.id == 0) return;
    ids.push_back(tensor.id);
    data.push_back(const_cast<void*>(pointer));
  };
  give(graph.first, operands.first.data);
  give(graph.second, operands.second.data);
  give(graph.output, operands.output.data);
  give(graph.bias, operands.bias);
  give(graph.before, operands.output.data);
  give(graph.one, &kOne);
  run(libraries(exec).cudnn(), plan, ids, data, exec.scratch(plan.workspace));
}

// Microseconds of each plan, on an output of its own.
std::vector<PlanCandidate> measure(Exec& exec, const ConvGraph& graph,
                                   const std::vector<CudnnPlan>& plans, Operands operands) {
  constexpr int kCalls = 5;
  const DeviceMemory output =
      allocate_on(exec.device(), operands.output.bytes(), "output for timing a convolution");
  operands.output.data = output.get();
  clear(exec, operands.output);
  std::vector<std::function<void()>> runs;
  for (const CudnnPlan& plan : plans)
    runs.emplace_back([&] {
      for (int call = 0; call < kCalls; ++call) run_graph(exec, graph, plan, operands);
      synchronize(exec);
    });
  const std::vector<double> microseconds = time_in_turns(runs);
  std::vector<PlanCandidate> candidates;
  for (size_t i = 0; i < plans.size(); ++i)
    candidates.push_back({plans[i].name, microseconds[i] / kCalls});
  return candidates;
}

// The problem that cuDNN is given for the caller's: see conv2d_cudnn.h.
ConvPlan stage(Exec& exec, const ConvProblem& asked, const ConvProblem& given,
               const Operands& operands) {
  ConvPlan plan;
  const bool wide = given.x.c != asked.x.c;
  switch (asked.direction) {
    case ConvDirection::kForward:
      if (wide) plan.first.make(exec, operands.first, given.x);
      if (wide) plan.second.make(exec, operands.second, given.filter);
      break;
    case ConvDirection::kDgrad:
      if (wide) plan.second.make(exec, operands.second, given.filter);
      if (wide) plan.output.make(exec, operands.output, given.x);
      break;
    case ConvDirection::kWgrad:
      if (wide) plan.first.make(exec, operands.first, given.x);
      if (wide || asked.accumulate) plan.output.make(exec, operands.output, given.filter);
      break;
  }
  return plan;
}

// Copies what is staged and returns the operands that cuDNN works on.
Operands staged(Exec& exec, const ConvPlan& plan, Operands operands) {
  const auto fill = [&](const Staged& to, View& operand) {
    if (!to) return;
    copy_channels(exec, to.view, operand, 0);
    operand = to.view;
  };
  fill(plan.first, operands.first);
  fill(plan.second, operands.second);
  if (plan.output) operands.output = plan.output.view;
  return operands;
}

void choose_plan(Exec& exec, ConvPlan& chosen, const ConvProblem& problem,
                 const Operands& operands) {
  chosen.graph = make_conv_graph(problem);
  const CudnnDevice device(libraries(exec).cudnn());
  std::vector<CudnnPlan> plans = chosen.graph.graph.plans(
      device, kTimedPlans, problem.dtype != Dtype::kFloat32 || exec.cuda().tf32());
  const std::string key = problem.text();
  require(!plans.empty(), "cuDNN has no engine for the convolution '{}'", key);
  if (const PlanEntry* entry = exec.plans().find(key))
    for (CudnnPlan& plan : plans)
      if (plan.name == entry->chosen) {
        chosen.plan = std::move(plan);
        return;
      }
  std::vector<PlanCandidate> measured = measure(exec, chosen.graph, plans, operands);
  const size_t fastest = choose_candidate(measured);
  exec.plans().record({key, measured[fastest].name, measured, problem.gflop()});
  chosen.plan = std::move(plans[fastest]);
}

void compute(Exec& exec, const ConvProblem& problem, const Operands& operands) {
  auto& plans = libraries(exec).cache<ConvCache>().plans;
  const auto key = problem.key();
  auto found = plans.find(key);
  if (found == plans.end()) {
    const ConvProblem given = cudnn_problem(problem);
    ConvPlan plan = stage(exec, problem, given, operands);
    choose_plan(exec, plan, given, staged(exec, plan, operands));
    found = plans.emplace(key, std::move(plan)).first;
  }
  const ConvPlan& plan = found->second;
  run_graph(exec, plan.graph, *plan.plan, staged(exec, plan, operands));
  if (plan.output)
    copy_channels(exec, operands.output, plan.output.view, problem.accumulate ? 1.0f : 0.0f);
}

}  // namespace

ConvProblem cudnn_problem(ConvProblem problem) {
  constexpr int64_t kChannels = 8;  // 16 bytes of bfloat16
  if (problem.dtype == Dtype::kBFloat16)
    problem.x.c = problem.filter.c = (problem.x.c + kChannels - 1) / kChannels * kChannels;
  if (problem.direction == ConvDirection::kWgrad) problem.accumulate = false;
  return problem;
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
  // The result runs through the epilogue in float32 and is rounded once, where it is stored.
  const bool widened = p.direction == ConvDirection::kWgrad && p.dtype != p.result_dtype;
  const int stages = p.bias + p.accumulate + p.relu + widened;
  const auto [shape, result] = p.direction == ConvDirection::kForward ? std::pair{p.y, y}
                               : p.direction == ConvDirection::kDgrad ? std::pair{p.x, x}
                                                                      : std::pair{p.filter, w};
  g.output = result;
  int left = stages;
  const auto next = [&, result_shape = shape] {
    return left-- == 0 ? g.output : graph.virtual_tensor(result_shape, Dtype::kFloat32);
  };
  CudnnTensor sum = next();
  switch (p.direction) {
    case ConvDirection::kForward:
      g.first = x, g.second = w;
      graph.conv_forward(sum, x, w, p.options);
      break;
    case ConvDirection::kDgrad:
      g.first = y, g.second = w;
      graph.conv_dgrad(sum, y, w, p.options);
      break;
    case ConvDirection::kWgrad:
      g.first = x, g.second = y;
      graph.conv_wgrad(sum, x, y, p.options);
      break;
  }
  if (widened) {  // cuDNN writes float32 from bfloat16 operands only through a pointwise operation
    g.one = graph.one();
    const CudnnTensor to = next();
    graph.pointwise(CUDNN_POINTWISE_MUL, to, sum, g.one);
    sum = to;
  }
  if (p.bias) {
    g.bias = graph.channels(p.filter.n, Dtype::kFloat32);
    const CudnnTensor to = next();
    graph.pointwise(CUDNN_POINTWISE_ADD, to, sum, g.bias);
    sum = to;
  }
  if (p.accumulate) {
    g.before = graph.tensor(shape, p.result_dtype);
    const CudnnTensor to = next();
    graph.pointwise(CUDNN_POINTWISE_ADD, to, sum, g.before);
    sum = to;
  }
  if (p.relu) graph.pointwise(CUDNN_POINTWISE_RELU_FWD, next(), sum);
  return g;
}

void conv2d_forward_cuda(Exec& exec, View y, View x, const Filter& filter, ConvOptions options,
                         ConvEpilogue epilogue) {
  compute(exec, forward_problem(y, x, filter, options, epilogue),
          {x, filter.w, y, epilogue.bias ? epilogue.bias->data : nullptr});
}

void conv2d_dgrad_cuda(Exec& exec, View dx, View dy, const Filter& filter, ConvOptions options) {
  compute(exec, dgrad_problem(dx, dy, filter, options), {dy, filter.w, dx});
}

void conv2d_wgrad_cuda(Exec& exec, View dw, View x, View dy, ConvOptions options, bool accumulate) {
  compute(exec, wgrad_problem(dw, x, dy, options, accumulate), {x, dy, dw});
}

}  // namespace ringfort
