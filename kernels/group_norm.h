// Group normalisation (Wu and He 2018): each sample's channels in groups, each group by the mean
// and variance of its own elements. Nothing depends on the batch, so all passes compute the same.
#pragma once

#include "kernels/exec.h"

namespace ringfort {

// statistics: (N, 1, 1, 2 groups), float32 (float64 with float64 x): mean and 1 / sqrt(variance +
// epsilon) of each group of a sample. Errors: channels that the groups do not divide.
void group_norm_statistics(Exec& exec, View statistics, View x, double epsilon);

// y = gamma xhat + beta, xhat the normalised x; gamma, beta: C values each.
void group_norm_apply(Exec& exec, View y, View x, View statistics, View gamma, View beta);

// dx = the gradient with respect to x + accumulate dx; accumulate 0 or 1. scratch: like statistics.
void group_norm_backward(Exec& exec, View dx, View scratch, View x, View dy, View statistics,
                         View gamma, float accumulate);

// dgamma (C) = sum of dy xhat over samples and pixels + accumulate dgamma. dbeta is bias_gradient.
void group_norm_scale_gradient(Exec& exec, View dgamma, View x, View dy, View statistics,
                               float accumulate);

}  // namespace ringfort
