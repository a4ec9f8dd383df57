#include "kernels/conv2d_cudnn.h"

#include <unordered_map>

#include "kernels/activation.h"
#include "kernels/array_hash.h"
#include "kernels/conv2d_cuda.h"
#include "kernels/device_memory.h"
#include "kernels/libraries_cuda.h"

namespace ringfort {
namespace {

constexpr float kZero = 0.0f, kOne = 1.0f;

struct PreparedConv {
  std::optional<ConvPlan> plan;
  std::optional<Shape> padded_filter;
  PreparedFilter own_filter;    // where the caller keeps no copies
  StagedOperand first, output;  // empty where the caller's own serves
};

struct ConvCache {
  std::unordered_map<ConvProblem::Key, PreparedConv, ArrayHash> prepared;
};

// product: where the graph's output goes; scratch: its workspace.
void run_graph(Exec& exec, const ConvPlan& plan, const ConvOperands& o, const View& product,
               void* scratch) {
  std::vector<int64_t> ids;
  std::vector<void*> data;
  const auto give = [&](CudnnTensor tensor, const void* pointer) {
    if (tensor.id == 0) return;
    ids.push_back(tensor.id);
    data.push_back(const_cast<void*>(pointer));
  };
  const auto give_view = [&](CudnnTensor tensor, const View* view) {
    if (view) give(tensor, view->data);
  };
  const ConvGraph& g = plan.graph;
  give(g.first, o.first.data);
  give(g.second, o.second.data);
  give(g.output, product.data);
  give_view(g.bias, o.forward.bias);
  give_view(g.before, o.dgrad.accumulate ? &o.output : o.forward.residual);
  give_view(g.mask, o.forward.mask);
  if (const NormedOutput* normed = o.forward.normed) {
    give(g.scale, normed->scale.data);
    give(g.shift, normed->shift.data);
    give(g.normed, normed->y.data);
    give(g.normed_mask, normed->mask.data);
  }
  give(g.gate_mask, o.dgrad.gate.mask.data);
  give(g.gate_scale, o.dgrad.gate.scale.data);
  give(g.zero, &kZero);
  give(g.one, &kOne);
  run(libraries(exec).cudnn(), plan.plan, ids, data, scratch);
}

// The product of a forward convolution that is not fused with what is added to it: in the output,
// or in scratch memory where the output holds what is added.
void run_bare_forward(Exec& exec, const ConvPlan& plan, const ConvOperands& o) {
  const View* residual = o.forward.residual;
  View product = o.output;
  const int64_t workspace = (plan.plan.workspace + 255) / 256 * 256;
  if (residual && residual->data == o.output.data) {
    auto* scratch = static_cast<std::byte*>(exec.scratch(workspace + product.bytes()));
    product.data = scratch + workspace;
    run_graph(exec, plan, o, product, scratch);
  } else {
    run_graph(exec, plan, o, product, exec.scratch(workspace));
  }
  finish_product(exec, o.output, product, o.forward);
}

StagedOperand stage(Exec& exec, const View& given, const Shape& shape) {
  StagedOperand staged;
  staged.view = given;
  staged.view.shape = shape;
  staged.memory = allocate_on(exec.device(), staged.view.bytes(), "a convolution's padded operand");
  staged.view.data = staged.memory.get();
  return staged;
}

// The filter with zeros for further input channels, filled once per version of its values where
// the caller keeps what is made of it.
View padded_filter(Exec& exec, const Filter& filter, const Shape& shape, PreparedFilter& own) {
  PreparedFilter::Padded& padded = (filter.prepared ? *filter.prepared : own).padded;
  if (!padded.memory) {
    StagedOperand made = stage(exec, filter.w, shape);
    padded.memory = std::move(made.memory);
    padded.view = made.view;
  }
  const bool filled = filter.prepared && filter.version != 0 && padded.version == filter.version;
  if (!filled) copy_channels(exec, padded.view, filter.w, 0);
  padded.version = filter.version;
  return padded.view;
}

// Copies what is staged and returns the operands that cuDNN works on.
ConvOperands staged_operands(Exec& exec, PreparedConv& prepared, ConvOperands operands) {
  if (prepared.first) {
    copy_channels(exec, prepared.first.view, operands.first, 0);
    operands.first = prepared.first.view;
  }
  if (prepared.padded_filter)
    operands.second =
        padded_filter(exec, operands.filter, *prepared.padded_filter, prepared.own_filter);
  return operands;
}

// The caller's problem as cuDNN is given it: see conv2d_cudnn.h.
PreparedConv prepare(Exec& exec, const ConvProblem& asked, const ConvOperands& operands) {
  const ConvProblem given = cudnn_problem(asked);
  PreparedConv prepared;
  const bool wide = given.x.c != asked.x.c;
  switch (asked.direction) {
    case ConvDirection::kForward:
      if (wide) prepared.first = stage(exec, operands.first, given.x);
      if (wide) prepared.padded_filter = given.filter;
      break;
    case ConvDirection::kDgrad:
      if (wide) prepared.padded_filter = given.filter;
      if (wide) prepared.output = stage(exec, operands.output, given.x);
      break;
    case ConvDirection::kWgrad:
      if (wide) prepared.first = stage(exec, operands.first, given.x);
      if (wide || asked.accumulate) prepared.output = stage(exec, operands.output, given.filter);
      break;
  }
  prepared.plan =
      choose_conv_plan(exec, given, staged_operands(exec, prepared, operands), prepared.output);
  return prepared;
}

void compute(Exec& exec, ConvProblem problem, const ConvOperands& operands) {
  problem.tf32 = exec.tf32() && problem.dtype == Dtype::kFloat32;
  auto& cache = libraries(exec).cache<ConvCache>().prepared;
  const auto key = problem.key();
  auto found = cache.find(key);
  if (found == cache.end()) found = cache.emplace(key, prepare(exec, problem, operands)).first;
  PreparedConv& prepared = found->second;
  run_plan(exec, *prepared.plan, staged_operands(exec, prepared, operands), prepared.output);
}

}  // namespace

void run_plan(Exec& exec, const ConvPlan& plan, const ConvOperands& o,
              const StagedOperand& staged) {
  const auto run_to = [&](const View& product) {
    run_graph(exec, plan, o, product, exec.scratch(plan.plan.workspace));
  };
  switch (o.direction) {
    case ConvDirection::kForward:
      if (plan.fusion == ConvFusion::kNone) return run_bare_forward(exec, plan, o);
      run_to(o.output);
      if (plan.fusion == ConvFusion::kProduct) finish_outputs(exec, o.output, o.forward);
      return;
    case ConvDirection::kDgrad: {
      if (plan.fusion == ConvFusion::kAll && !staged) return run_to(o.output);
      const View product = o.dgrad.accumulate ? o.dgrad.part : o.output;
      run_to(staged ? staged.view : product);
      if (staged) copy_channels(exec, product, staged.view, 0);
      return finish_dgrad(exec, o.output, product, o.dgrad);
    }
    case ConvDirection::kWgrad:
      run_to(staged ? staged.view : o.output);
      if (staged) copy_channels(exec, o.output, staged.view, o.accumulate ? 1.0f : 0.0f);
      return;
  }
}

void conv2d_forward_cuda(Exec& exec, View y, View x, const Filter& filter, ConvOptions options,
                         const ConvEpilogue& epilogue) {
  compute(exec, forward_problem(y, x, filter, options, epilogue),
          {.direction = ConvDirection::kForward,
           .first = x,
           .second = filter.w,
           .output = y,
           .filter = filter,
           .forward = epilogue});
}

void conv2d_dgrad_cuda(Exec& exec, View dx, View dy, const Filter& filter, ConvOptions options,
                       const DgradEpilogue& epilogue) {
  compute(exec, dgrad_problem(dx, dy, filter, options, epilogue),
          {.direction = ConvDirection::kDgrad,
           .first = dy,
           .second = filter.w,
           .output = dx,
           .filter = filter,
           .dgrad = epilogue});
}

void conv2d_wgrad_cuda(Exec& exec, View dw, View x, View dy, ConvOptions options, bool accumulate) {
  compute(exec, wgrad_problem(dw, x, dy, options, accumulate),
          {.direction = ConvDirection::kWgrad,
           .first = x,
           .second = dy,
           .output = dw,
           .accumulate = accumulate});
}

}  // namespace ringfort
