#include <unordered_map>

#include "kernels/array_hash.h"
#include "kernels/libraries_cuda.h"
#include "kernels/norm_cuda.h"
#include "kernels/norm_graph_cudnn.h"
#include "kernels/plans.h"
#include "kernels/trial_cudnn.h"

namespace ringfort {
namespace {

constexpr int kTimedPlans = 3;
constexpr const char* kKernels = "kernels";  // of ours
constexpr float kZero = 0;

struct NormPlan {
  NormGraph graph;
  std::optional<CudnnPlan> plan;  // none: kernels of ours
};

struct NormCache {
  std::unordered_map<std::array<int64_t, 9>, NormPlan, ArrayHash> plans;
};

// What a call is given, outputs first.
struct ForwardCall {
  View y;
  NormVectors norm;
  View x, gamma, beta;
  NormEpilogue epilogue;
  View scratch[3];
  double epsilon;
};
struct BackwardCall {
  View dx, dbeta, dgamma, x, dy, gamma;
  NormVectors norm;
};

using Given = std::vector<std::pair<CudnnTensor, const void*>>;

void run_graph(Exec& exec, const CudnnPlan& plan, const Given& given) {
  std::vector<int64_t> ids;
  std::vector<void*> data;
  for (const auto& [tensor, pointer] : given) {
    if (tensor.id == 0) continue;
    ids.push_back(tensor.id);
    data.push_back(const_cast<void*>(pointer));
  }
  run(libraries(exec).cudnn(), plan, ids, data, exec.scratch(plan.workspace));
}

void run_plan(Exec& exec, const NormGraph& g, const CudnnPlan& plan, const ForwardCall& c) {
  const auto epsilon = static_cast<float>(c.epsilon);
  run_graph(exec, plan,
            {{g.x, c.x.data},
             {g.gamma, c.gamma.data},
             {g.beta, c.beta.data},
             {g.mean, c.norm.mean.data},
             {g.inv_std, c.norm.inv_std.data},
             {g.y, c.y.data},
             {g.residual, c.epilogue.residual.data},
             {g.mask, c.epilogue.mask.data},
             {g.epsilon, &epsilon},
             {g.zero, &kZero}});
  complete_norm(exec, c.norm, c.gamma, c.beta, c.epsilon);
}

void run_plan(Exec& exec, const NormGraph& g, const CudnnPlan& plan, const BackwardCall& c) {
  run_graph(exec, plan,
            {{g.x, c.x.data},
             {g.dy, c.dy.data},
             {g.gamma, c.gamma.data},
             {g.mean, c.norm.mean.data},
             {g.inv_std, c.norm.inv_std.data},
             {g.dx, c.dx.data},
             {g.dgamma, c.dgamma.data},
             {g.dbeta, c.dbeta.data}});
}

void run_kernels(Exec& exec, const ForwardCall& c) {
  batch_norm_statistics(exec, c.norm, c.x, c.gamma, c.beta, c.scratch, c.epsilon);
  apply_norm(exec, c.y, c.x, c.norm, c.epilogue);
}

void run_kernels(Exec& exec, const BackwardCall& c) {
  norm_gradient_sums(exec, c.dbeta, c.dgamma, c.x, c.dy, c.norm, false);
  batch_norm_backward(exec, c.dx, c.x, c.dy, c.norm, c.dbeta, c.dgamma, false, 0);
}

// The same call with outputs of its own.
ForwardCall on_trial(TrialMemory& memory, ForwardCall c) {
  for (View* view : {&c.y, &c.norm.mean, &c.norm.inv_std, &c.norm.scale, &c.norm.shift,
                     &c.norm.variance, &c.scratch[0], &c.scratch[1], &c.scratch[2]})
    memory.own(*view);
  if (c.epilogue.mask.data) memory.own(c.epilogue.mask);
  return c;
}

BackwardCall on_trial(TrialMemory& memory, BackwardCall c) {
  for (View* view : {&c.dx, &c.dbeta, &c.dgamma}) memory.own(*view);
  return c;
}

bool agree(Exec& exec, const ForwardCall& a, const ForwardCall& trusted) {
  return close(exec, a.y, trusted.y) && close(exec, a.norm.scale, trusted.norm.scale) &&
         close(exec, a.norm.shift, trusted.norm.shift) &&
         close(exec, a.norm.variance, trusted.norm.variance) &&
         (!a.epilogue.mask.data || marks(exec, a.epilogue.mask, a.y));
}

bool agree(Exec& exec, const BackwardCall& a, const BackwardCall& trusted) {
  return close(exec, a.dx, trusted.dx) && close(exec, a.dgamma, trusted.dgamma) &&
         close(exec, a.dbeta, trusted.dbeta);
}

// The fastest of cuDNN's plans that give what kernels of ours give, or those kernels.
template <class Call>
NormPlan choose(Exec& exec, const NormProblem& problem, const Call& call) {
  NormPlan chosen{make_norm_graph(problem), std::nullopt};
  const std::string key = problem.text();
  const CudnnDevice device(libraries(exec).cudnn());
  const auto plans = [&](const std::string& name) {
    return chosen.graph.graph.plans(device, kTimedPlans, true, name);
  };
  if (const PlanEntry* entry = exec.plans().find(key)) {
    if (entry->chosen == kKernels) return chosen;
    for (CudnnPlan& plan : plans(entry->chosen)) {
      chosen.plan = std::move(plan);
      return chosen;
    }
  }
  const TrialScratch scratch(exec);
  TrialMemory memory(exec);
  const Call trusted = on_trial(memory, call), trial = on_trial(memory, call);
  run_kernels(exec, trusted);
  std::vector<CudnnPlan> correct;
  for (CudnnPlan& plan : plans("")) {
    if (runs(exec, [&] { run_plan(exec, chosen.graph, plan, trial); }) &&
        agree(exec, trial, trusted))
      correct.push_back(std::move(plan));
  }
  std::vector<std::function<void()>> candidates_to_time = {[&] { run_kernels(exec, trial); }};
  for (const CudnnPlan& plan : correct)
    candidates_to_time.emplace_back([&] { run_plan(exec, chosen.graph, plan, trial); });
  const std::vector<double> microseconds = time_plans(exec, candidates_to_time);
  std::vector<PlanCandidate> candidates = {{kKernels, microseconds[0]}};
  for (size_t i = 0; i < correct.size(); ++i)
    candidates.push_back({correct[i].name, microseconds[i + 1]});
  const size_t fastest = choose_candidate(candidates);
  if (fastest > 0) chosen.plan = std::move(correct[fastest - 1]);
  exec.plans().record({key, candidates[fastest].name, candidates, 0});
  return chosen;
}

// cuDNN's engines want whole vectors of channels.
bool possible(const View& x, const View& gamma) {
  constexpr int64_t kChannels = 8;
  return (x.dtype == Dtype::kFloat32 || x.dtype == Dtype::kBFloat16) &&
         gamma.dtype == Dtype::kFloat32 && x.layout == Layout::kChannelsLast &&
         x.shape.c % kChannels == 0 && x.shape.pixels() > 1;
}

template <class Call>
bool run_chosen(Exec& exec, const NormProblem& problem, const Call& call) {
  auto& plans = libraries(exec).cache<NormCache>().plans;
  const auto key = problem.key();
  auto found = plans.find(key);
  if (found == plans.end()) found = plans.emplace(key, choose(exec, problem, call)).first;
  const NormPlan& chosen = found->second;
  if (!chosen.plan) return false;
  run_plan(exec, chosen.graph, *chosen.plan, call);
  return true;
}

}  // namespace

bool batch_norm_forward_cuda(Exec& exec, View y, const NormVectors& norm, View x, View gamma,
                             View beta, const NormEpilogue& epilogue, const View (&scratch)[3],
                             double epsilon) {
  if (!possible(x, gamma)) return false;
  NormProblem problem;
  problem.dtype = x.dtype;
  problem.x = x.shape;
  problem.relu = epilogue.relu;
  problem.residual = epilogue.residual.data != nullptr;
  problem.mask = epilogue.mask.data != nullptr;
  return run_chosen(
      exec, problem,
      ForwardCall{
          y, norm, x, gamma, beta, epilogue, {scratch[0], scratch[1], scratch[2]}, epsilon});
}

bool batch_norm_gradients_cuda(Exec& exec, View dx, View dbeta, View dgamma, View x, View dy,
                               View gamma, const NormVectors& norm) {
  if (!possible(x, gamma) || dy.dtype != x.dtype || dx.dtype != x.dtype) return false;
  NormProblem problem;
  problem.backward = true;
  problem.dtype = x.dtype;
  problem.x = x.shape;
  return run_chosen(exec, problem, BackwardCall{dx, dbeta, dgamma, x, dy, gamma, norm});
}

}  // namespace ringfort
