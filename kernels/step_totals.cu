#include "kernels/step_totals.h"

#include "kernels/reduce.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

struct AddStep {
  StepSums* totals;
  const double* sums;
  const GradientCheck* check;
  int64_t images;

  HD void operator()(int64_t) const {
    totals->steps += 1;
    if (check->finite != 0) {
      totals->loss += sums[0];
      totals->correct += sums[1];
      totals->images += static_cast<double>(images);
      return;
    }
    if (totals->skipped == 0) totals->first_skipped = totals->steps;
    totals->skipped += 1;
  }
};

struct KeepUnlessFinite {
  const GradientCheck* check;
  bool finite = true;
  HD KeepUnlessFinite resolve() const { return {check, check->finite != 0}; }
  template <class S>
  HD S operator()(S value, S kept) const {
    return finite ? value : kept;
  }
};

}  // namespace

void add_batch_totals(Exec& exec, View loss_sum, View hits, View loss, View prediction,
                      View labels) {
  const Shape column{loss.count(), 1, 1, 1};  // one channel, to be summed over the samples
  channel_reduce(exec, LossAndHit{}, {loss_sum, hits},
                 {reshaped(loss, column), reshaped(prediction, column), reshaped(labels, column)},
                 1.0f);
}

void add_step(Exec& exec, View totals, View sums, View check, int64_t images) {
  for_each(exec, 1, 1,
           AddStep{totals.as<StepSums>(), sums.as<const double>(), check.as<const GradientCheck>(),
                   images});
}

void keep_unless_finite(Exec& exec, View values, View kept, View check) {
  map(exec, KeepUnlessFinite{check.as<const GradientCheck>()}, {values}, {values, kept});
}

}  // namespace ringfort
