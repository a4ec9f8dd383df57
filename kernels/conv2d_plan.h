// One convolution product as oneDNN runs it: a candidate built for a problem, with the copies into
// other formats that it needs around it.
#pragma once

#include <memory>
#include <optional>

#include "kernels/conv2d_candidates.h"
#include "kernels/conv2d_prepared.h"

namespace ringfort {

struct ConvPlan {
  std::string name;  // of the candidate
  // Base::kFirst: x (dy for dgrad). Base::kSecond: the filter in `form` (dy for wgrad).
  // Base::kOutput, Base::kBias.
  Sequence sequence;
  std::shared_ptr<FilterForm> form;  // nullptr for wgrad
  bool slow = false;                 // oneDNN's plain loops: only where there is nothing else
};

// Forms shared by the plans of one OneDnn.
using FilterForms = std::vector<std::shared_ptr<FilterForm>>;

// Empty where oneDNN does not offer the candidate, or where it is the same as the one named
// "direct".
std::optional<ConvPlan> build_plan(OneDnn& library, FilterForms& forms, const ConvProblem& problem,
                                   const ConvCandidate& candidate);

}  // namespace ringfort
