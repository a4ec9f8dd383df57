// The ledger of a training on the device: what each step adds to the totals that the host reads now
// and then, and what a step that must change nothing leaves as it was. No step waits for the host.
#pragma once

#include "kernels/update.h"

namespace ringfort {

// Since they were last read; float64 on the device, in this order.
struct StepSums {
  double loss = 0, correct = 0, images = 0;
  double steps = 0;
  double skipped = 0;        // of them, those whose gradient or loss was not finite
  double first_skipped = 0;  // which was the first of those, from 1; 0: none
  static constexpr int64_t kCount = 6;
};

// A sample's share of a batch's sums: its loss, and 1 where the prediction is the label.
struct LossAndHit {
  template <class S>
  HD Results<S, 2> operator()(S loss, S prediction, S label) const {
    return {{loss, prediction == label ? S(1) : S(0)}};
  }
};

// loss_sum and hits, one float64 each, grow by the batch's. loss (N) float32 or float64, prediction
// and labels (N) int32.
void add_batch_totals(Exec& exec, View loss_sum, View hits, View loss, View prediction,
                      View labels);

// totals (StepSums) grow by the step's loss and right answers (sums, two float64) and its images,
// or, where check says that the step was skipped, by that.
void add_step(Exec& exec, View totals, View sums, View check, int64_t images);

// values <- kept where check (GradientCheck) says that the step was skipped.
void keep_unless_finite(Exec& exec, View values, View kept, View check);

}  // namespace ringfort
