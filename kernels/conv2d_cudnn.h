// Convolutions as the cuDNN backend runs them, in the order of use: the operation graph of a
// product with its epilogue (conv2d_graph_cudnn.cpp), apart so that a test can ask cuDNN for its
// engines without a GPU; the choice of how much of the epilogue is fused and which engine runs it
// (conv2d_choice_cudnn.cpp); and its run (conv2d_cudnn.cpp).
#pragma once

#include "kernels/conv2d_candidates.h"
#include "kernels/graph_cudnn.h"

namespace ringfort {

// Graph and the tensors whose data a run needs; id 0: the graph has no such tensor.
struct ConvGraph {
  CudnnGraph graph;
  CudnnTensor first, second, output;  // operands in the order of conv2d_*: x w y, dy w dx, x dy dw
  CudnnTensor bias;                   // (O)
  CudnnTensor before;                 // what is added to the product: like the output
  CudnnTensor mask;
  CudnnTensor scale, shift, normed, normed_mask;
  CudnnTensor gate_mask, gate_scale;
  CudnnTensor zero, one;  // numbers given by value
};

ConvGraph make_conv_graph(const ConvProblem& problem);

// The problem that cuDNN is given in place of the caller's. It has no engine for the filter's
// gradient of a bfloat16 stem with 3 channels, so channels are padded with zeros to a multiple of
// 8, which changes no sum; an input gradient that has more channels than asked for goes through its
// gate afterwards. And none that adds to a float32 filter gradient, so that is a pass of ours.
ConvProblem cudnn_problem(ConvProblem problem);

// How much of the epilogue cuDNN's kernel does.
enum class ConvFusion {
  kAll,      // all of it
  kProduct,  // what kernels/conv2d_epilogue.h's ProductEpilogue has
  kNone      // nothing: kernels of ours do it
};

// What can be done with a problem, the most fused first. The last always has an engine where cuDNN
// has one for the product itself.
std::vector<ConvFusion> fusions(const ConvProblem& problem);
// The part of a problem that a graph is made of.
ConvProblem fused_part(const ConvProblem& problem, ConvFusion fusion);
// How the names of plans tell how much is fused: what follows the engine's name.
std::string_view suffix_of(ConvFusion fusion);
// The engine in a plan's name; none where that plan fuses otherwise; "" for "", which names none.
std::optional<std::string> engine_of(std::string_view plan, ConvFusion fusion);

// What one call of conv2d_* is given, with the epilogue of its direction.
struct ConvOperands {
  ConvDirection direction;
  View first, second, output;  // in the order of conv2d_*
  Filter filter = {};          // as the caller has it, where one is an operand
  ConvEpilogue forward = {};
  DgradEpilogue dgrad = {};
  bool accumulate = false;  // of a filter's gradient
};

// What stands in for an operand: with channels of zeros added, or a result that is added
// afterwards.
struct StagedOperand {
  DeviceMemory memory;
  View view;
  explicit operator bool() const { return memory != nullptr; }
};

// One way to compute a problem.
struct ConvPlan {
  ConvFusion fusion;
  ConvGraph graph;
  CudnnPlan plan;
  std::string name() const;  // "eng7 k2=4", "eng7 k2=4 + epilogue": with kernels of ours
};

// staged: where the product goes first if not to the output itself.
void run_plan(Exec& exec, const ConvPlan& plan, const ConvOperands& operands,
              const StagedOperand& staged);

// The fastest plan for `problem`, a cudnn_problem: measured once, then remembered (plans.h). One
// that fuses is taken only if it gives what the bare product and kernels of ours give.
ConvPlan choose_conv_plan(Exec& exec, const ConvProblem& problem, const ConvOperands& operands,
                          const StagedOperand& staged);

}  // namespace ringfort
