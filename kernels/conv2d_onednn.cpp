#include "kernels/conv2d_onednn.h"

#include <omp.h>

#include <cstring>
#include <unordered_map>

#include "kernels/conv2d_plan.h"
#include "kernels/plans.h"

namespace ringfort {
namespace {

// The buffers of one call. For wgrad `second` is dy; otherwise the filter is what `filter` says.
struct Operands {
  void* first = nullptr;
  void* second = nullptr;
  void* output = nullptr;
  void* bias = nullptr;
  const Filter* filter = nullptr;
  int64_t output_bytes = 0;
};

struct ConvCache {
  std::unordered_map<ConvProblem::Key, ConvPlan, ArrayHash> plans;
  FilterForms forms;
};

Bases bases_of(const Operands& operands, void* scratch) {
  return {operands.first, operands.second, operands.output, operands.bias, scratch};
}

// Prepares the filter where the form asks for it (or finds it prepared) and sets operands.second.
// Returns the part of the scratch that is left to the product.
void* with_filter(Exec& exec, const ConvPlan& plan, Operands& operands) {
  const Filter& filter = *operands.filter;
  FilterForm& form = *plan.form;
  operands.second = filter.w.data;
  if (form.as_stored()) return exec.scratch(plan.sequence.scratch_bytes());
  const int64_t shared =
      std::max(form.scratch_bytes(), plan.sequence.scratch_bytes());  // one after the other
  if (!filter.prepared) {
    auto* scratch = static_cast<std::byte*>(exec.scratch(aligned64(form.bytes()) + shared));
    operands.second = scratch;
    scratch += aligned64(form.bytes());
    form.prepare(exec.onednn(), exec.threads(), operands.second, filter.w.data, scratch);
    return scratch;
  }
  void* scratch = exec.scratch(shared);
  auto& copy = filter.prepared->copies().of(plan.form);
  operands.second = copy.memory.get();
  if (copy.filled && copy.version == filter.version) return scratch;
  form.prepare(exec.onednn(), exec.threads(), operands.second, filter.w.data, scratch);
  copy.filled = true;
  copy.version = filter.version;
  return scratch;
}

void run_plan(Exec& exec, ConvPlan& plan, Operands operands) {
  void* scratch =
      plan.form ? with_filter(exec, plan, operands) : exec.scratch(plan.sequence.scratch_bytes());
  plan.sequence.run(exec.onednn().stream(), bases_of(operands, scratch));
}

std::vector<ConvPlan> build_candidates(Exec& exec, FilterForms& forms, const ConvProblem& problem) {
  std::vector<ConvPlan> plans;
  for (const ConvCandidate& candidate : conv_candidates(problem)) {
    std::optional<ConvPlan> plan = build_plan(exec.onednn(), forms, problem, candidate);
    if (plan) plans.push_back(std::move(*plan));
  }
  const auto slow = [](const ConvPlan& plan) { return plan.slow; };
  if (!std::all_of(plans.begin(), plans.end(), slow)) std::erase_if(plans, slow);
  require(!plans.empty(), "oneDNN has no implementation of the convolution '{}'", problem.text());
  return plans;
}

// Times the plans on the caller's operands and an output of their own, with prepared filters: in an
// attack a filter is prepared once for many steps. The only place that allocates; once per shape.
std::vector<PlanCandidate> measure(Exec& exec, std::vector<ConvPlan>& plans, Operands operands) {
  const AlignedMemory output =
      allocate_aligned(operands.output_bytes, "output for timing a convolution");
  std::memset(output.get(), 0, static_cast<size_t>(operands.output_bytes));
  operands.output = output.get();
  PreparedFilter prepared;
  Filter filter;
  if (operands.filter) filter = {operands.filter->w, 0, &prepared};
  operands.filter = &filter;

  std::vector<std::function<double()>> runs;
  for (ConvPlan& plan : plans)
    runs.emplace_back(
        [&] { return seconds_per_call(exec, 1, [&] { run_plan(exec, plan, operands); }); });
  const std::vector<double> microseconds = time_in_turns(runs);
  std::vector<PlanCandidate> candidates;
  for (size_t i = 0; i < plans.size(); ++i) candidates.push_back({plans[i].name, microseconds[i]});
  return candidates;
}

ConvPlan take(std::vector<ConvPlan>& plans, const std::string& prefix) {
  for (ConvPlan& plan : plans)
    if (plan.name.starts_with(prefix)) return std::move(plan);
  return std::move(plans.front());
}

ConvPlan choose_plan(Exec& exec, FilterForms& forms, const ConvProblem& problem,
                     const Operands& operands) {
  PlanCache& remembered = exec.plans();
  const std::string key = problem.text();
  if (problem.force_id == 0)
    if (const PlanEntry* entry = remembered.find(key))
      for (const ConvCandidate& candidate : conv_candidates(problem))
        if (candidate.name == entry->chosen)
          if (auto plan = build_plan(exec.onednn(), forms, problem, candidate))
            return std::move(*plan);

  std::vector<ConvPlan> plans = build_candidates(exec, forms, problem);
  if (problem.force_id != 0) return take(plans, remembered.forced());
  std::vector<PlanCandidate> measured = measure(exec, plans, operands);
  const size_t chosen = choose_candidate(measured);
  remembered.record({key, measured[chosen].name, measured, problem.gflop()});
  return std::move(plans[chosen]);
}

void compute(Exec& exec, ConvProblem problem, const Operands& operands) {
  omp_set_num_threads(exec.threads());  // a thread's own setting: another Exec may have changed it
  problem.threads = exec.threads();
  problem.force_id = exec.plans().force_id();
  ConvCache& cache = exec.onednn().cache<ConvCache>();
  const auto key = problem.key();
  const auto found = cache.plans.find(key);
  with_onednn("convolution", [&] {
    ConvPlan& plan =
        found != cache.plans.end()
            ? found->second
            : cache.plans.emplace(key, choose_plan(exec, cache.forms, problem, operands))
                  .first->second;
    run_plan(exec, plan, operands);
  });
}

}  // namespace

bool conv2d_prefers_blocks() { return onednn_has_avx512(); }

void conv2d_forward_onednn(Exec& exec, View y, View x, const Filter& filter, ConvOptions options,
                           const ProductEpilogue& epilogue) {
  if (FloatCopies::needed(x.dtype))
    return in_float32(exec, x, filter.w, y, epilogue.accumulate, [&](View a, View b, View c) {
      conv2d_forward_onednn(exec, c, a, {b}, options, epilogue);
    });
  const ConvProblem problem = forward_problem(y, x, filter, options, epilogue);
  compute(exec, problem,
          {.first = x.data,
           .output = y.data,
           .bias = epilogue.bias ? epilogue.bias->data : nullptr,
           .filter = &filter,
           .output_bytes = y.bytes()});
}

void conv2d_dgrad_onednn(Exec& exec, View dx, View dy, const Filter& filter, ConvOptions options) {
  if (FloatCopies::needed(dy.dtype))
    return in_float32(exec, dy, filter.w, dx, false, [&](View a, View b, View c) {
      conv2d_dgrad_onednn(exec, c, a, {b}, options);
    });
  const ConvProblem problem = dgrad_problem(dx, dy, filter, options);
  compute(exec, problem,
          {.first = dy.data, .output = dx.data, .filter = &filter, .output_bytes = dx.bytes()});
}

void conv2d_wgrad_onednn(Exec& exec, View dw, View x, View dy, ConvOptions options,
                         bool accumulate) {
  if (FloatCopies::needed(x.dtype))
    return in_float32(exec, x, dy, dw, accumulate, [&](View a, View b, View c) {
      conv2d_wgrad_onednn(exec, c, a, b, options, accumulate);
    });
  const ConvProblem problem = wgrad_problem(dw, x, dy, options, accumulate);
  compute(exec, problem,
          {.first = x.data, .second = dy.data, .output = dw.data, .output_bytes = dw.bytes()});
}

}  // namespace ringfort
