#include "kernels/conv2d_cudnn.h"
#include "kernels/libraries_cuda.h"
#include "kernels/plans.h"
#include "kernels/trial_cudnn.h"

namespace ringfort {
namespace {

// A runtime-fused plan takes about a second to compile: only the heuristics' first few are timed.
constexpr int kTimedPlans = 3;

// only: the plan of this name, or "" for the first few.
std::vector<ConvPlan> make_plans(Exec& exec, const ConvProblem& problem, ConvFusion fusion,
                                 const std::string& only) {
  const std::optional<std::string> engine = engine_of(only, fusion);
  if (!engine) return {};
  const ConvGraph graph = make_conv_graph(fused_part(problem, fusion));
  std::vector<ConvPlan> plans;
  for (CudnnPlan& plan :
       graph.graph.plans(CudnnDevice(libraries(exec).cudnn()), kTimedPlans,
                         problem.dtype != Dtype::kFloat32 || problem.tf32, *engine))
    plans.push_back({fusion, graph, std::move(plan)});
  return plans;
}

// The operands with outputs of their own; what is added to in place is copied.
class Trial {
 public:
  Trial(Exec& exec, const ConvOperands& given) : memory_(exec), operands_(given) {
    ConvEpilogue& e = operands_.forward;
    const bool in_place = e.residual && e.residual->data == given.output.data;
    memory_.own(operands_.output, given.dgrad.accumulate || in_place);
    if (given.dgrad.accumulate) memory_.own(operands_.dgrad.part);
    if (in_place) e.residual = &operands_.output;
    if (e.mask) memory_.own(mask_ = *e.mask), e.mask = &mask_;
    if (e.normed) {
      normed_ = *e.normed;
      memory_.own(normed_.y);
      if (normed_.mask.data) memory_.own(normed_.mask);
      e.normed = &normed_;
    }
  }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  const ConvOperands& operands() const { return operands_; }

  // Whether the outputs are those of the other trial, up to rounding.
  bool agrees(Exec& exec, const Trial& trusted) const {
    return close(exec, operands_.output, trusted.operands_.output) &&
           (!operands_.forward.mask || marks(exec, mask_, operands_.output)) &&
           (!operands_.forward.normed ||
            (close(exec, normed_.y, trusted.normed_.y) &&
             (!normed_.mask.data || marks(exec, normed_.mask, normed_.y))));
  }

 private:
  TrialMemory memory_;
  ConvOperands operands_;
  View mask_;
  NormedOutput normed_;
};

// Leaves out what cuDNN offers and then does not run here.
void drop_failing(Exec& exec, std::vector<ConvPlan>& plans, const ConvOperands& operands,
                  const StagedOperand& staged) {
  std::erase_if(plans, [&](const ConvPlan& plan) {
    const Trial trial(exec, operands);
    return !runs(exec, [&] { run_plan(exec, plan, trial.operands(), staged); });
  });
}

// Leaves out what does not give what the least fused plan, the last, gives.
void keep_correct(Exec& exec, std::vector<ConvPlan>& plans, const ConvOperands& operands,
                  const StagedOperand& staged) {
  const ConvFusion least = plans.back().fusion;
  Trial trusted(exec, operands);
  run_plan(exec, plans.back(), trusted.operands(), staged);
  std::erase_if(plans, [&](const ConvPlan& plan) {
    if (plan.fusion == least) return false;
    const Trial trial(exec, operands);
    run_plan(exec, plan, trial.operands(), staged);
    return !trial.agrees(exec, trusted);
  });
}

// Microseconds of each plan.
std::vector<PlanCandidate> measure(Exec& exec, const std::vector<ConvPlan>& plans,
                                   const ConvOperands& operands, const StagedOperand& staged) {
  const Trial trial(exec, operands);
  std::vector<std::function<void()>> runs;
  for (const ConvPlan& plan : plans)
    runs.emplace_back([&] { run_plan(exec, plan, trial.operands(), staged); });
  const std::vector<double> microseconds = time_plans(exec, runs);
  std::vector<PlanCandidate> candidates;
  for (size_t i = 0; i < plans.size(); ++i)
    candidates.push_back({plans[i].name(), microseconds[i]});
  return candidates;
}

}  // namespace

std::string ConvPlan::name() const { return plan.name + std::string(suffix_of(fusion)); }

ConvPlan choose_conv_plan(Exec& exec, const ConvProblem& problem, const ConvOperands& operands,
                          const StagedOperand& staged) {
  const std::string key = problem.text();
  if (const PlanEntry* entry = exec.plans().find(key))
    for (const ConvFusion fusion : fusions(problem))
      for (ConvPlan& plan : make_plans(exec, problem, fusion, entry->chosen))
        return std::move(plan);

  std::vector<ConvPlan> plans;
  for (const ConvFusion fusion : fusions(problem)) {
    // In between only where cuDNN cannot do all: each plan costs a second.
    if (fusion == ConvFusion::kProduct && !plans.empty()) continue;
    for (ConvPlan& plan : make_plans(exec, problem, fusion, "")) plans.push_back(std::move(plan));
  }
  require(!plans.empty(), "cuDNN has no engine for the convolution '{}'", key);
  const TrialScratch scratch(exec);
  drop_failing(exec, plans, operands, staged);
  require(!plans.empty(), "cuDNN has no engine that runs the convolution '{}'", key);
  keep_correct(exec, plans, operands, staged);
  std::vector<PlanCandidate> measured = measure(exec, plans, operands, staged);
  const size_t fastest = choose_candidate(measured);
  exec.plans().record({key, measured[fastest].name, measured, problem.gflop()});
  return std::move(plans[fastest]);
}

}  // namespace ringfort
