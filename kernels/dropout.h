// Dropout (Srivastava et al. 2014), inverted: kept elements are scaled up in training, so that
// other passes need nothing. The numbers are drawn by (key, sample, element), element counted
// channels last whatever the layout: a sample loses the same elements in every batch, and the
// backward draws them anew instead of keeping a mask.
#pragma once

#include "kernels/exec.h"
#include "kernels/philox.h"

namespace ringfort {

// y = (u < rate ? 0 : x / (1 - rate)) + beta y, u uniform in (0, 1): forward from x to y, backward
// from dy to dx. samples: one data-set index per sample, on the device. Errors: a rate outside
// [0, 1); views that differ.
void dropout(Exec& exec, View y, View x, double rate, RandomKey key, const int64_t* samples,
             float beta);

}  // namespace ringfort
