// Batch norm over a batch that lies on several ranks, each of which has some of its images: the
// pieces of kernels/norm.h with sums over the ranks between them. Means and squares are merged as
// Chan, Golub and LeVeque (1979) do, the spread of each rank around its own mean and that of the
// means around the joint one; a difference of large sums is formed nowhere. Three sums per norm:
// two forward, one backward.
#pragma once

#include <functional>

#include "kernels/norm.h"

namespace ringfort {

// Adds a vector up over all ranks, in place; all of them have the same result, bit for bit. Every
// rank calls it as often and with the same lengths. Not called on a planned device.
using SumOverRanks = std::function<void(Exec& exec, const View& sums)>;

// {count, count mean} of one rank
struct WeighMean {
  double count;
  template <class S>
  HD Results<S, 2> operator()(S mean) const {
    return {{S(count), S(count) * mean}};
  }
};

// Sum of the squares of one rank's elements around the joint mean.
struct SpreadAroundJoint {
  double count;  // the rank's own
  template <class S>
  HD S operator()(S mean, S variance, S joint_count, S joint_sum) const {
    const S d = mean - joint_sum / joint_count;
    return S(count) * (variance + d * d);
  }
};

// {mean, biased variance}
struct MomentsFromJoint {
  template <class S>
  HD Results<S, 2> operator()(S count, S sum, S spread) const {
    return {{sum / count, spread / count}};
  }
};

// dbeta and dgamma of all ranks as batch_norm_backward wants them, which divides by a rank's own
// count.
struct OwnShareOfSums {
  double count;  // the rank's own
  template <class S>
  HD Results<S, 2> operator()(S dbeta, S dgamma, S joint_count) const {
    const S share = S(count) / joint_count;
    return {{dbeta * share, dgamma * share}};
  }
};

// batch_norm_statistics of the x of all ranks. scratch: (3, C); its first row keeps the number of
// elements per channel, which the functions below ask for.
void joint_norm_statistics(Exec& exec, const NormVectors& norm, View x, View gamma, View beta,
                           View scratch, double epsilon, const SumOverRanks& sum);

// update_running with count (C) elements per channel.
void update_running(Exec& exec, View running_mean, View running_variance, const NormVectors& norm,
                    float momentum, View count);

// batch_norm_gradients under joint statistics: dx takes the sums of all ranks; sums (2, C) are
// dbeta and dgamma of this rank alone, as the gradients of all parameters are. joint: (2, C),
// scratch. dx may be without data, on all ranks alike; there is then no sum over ranks.
void joint_norm_gradients(Exec& exec, View dx, View sums, View joint, View count, View x, View dy,
                          const NormVectors& norm, bool relu, float beta, const SumOverRanks& sum);

}  // namespace ringfort
