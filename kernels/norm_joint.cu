#include "kernels/norm_joint.h"

#include "kernels/activation.h"
#include "kernels/map.h"

namespace ringfort {
namespace {

View row(const View& rows, int64_t i) {
  return reshaped(rows.samples(i, 1), vector_shape(rows.shape.c));
}

void sum_up(Exec& exec, const SumOverRanks& sum, const View& sums) {
  if (!exec.planned()) sum(exec, sums);
}

}  // namespace

void joint_norm_statistics(Exec& exec, const NormVectors& norm, View x, View gamma, View beta,
                           View scratch, double epsilon, const SumOverRanks& sum) {
  const View count = row(scratch, 0), weighted = row(scratch, 1), spread = row(scratch, 2);
  batch_norm_statistics(exec, norm, x, gamma, beta, {count, weighted, spread}, epsilon);
  const auto own = static_cast<double>(x.shape.pixels());
  map(exec, WeighMean{own}, {count, weighted}, {norm.mean});
  sum_up(exec, sum, scratch.samples(0, 2));
  map(exec, SpreadAroundJoint{own}, {spread}, {norm.mean, norm.variance, count, weighted});
  sum_up(exec, sum, spread);
  map(exec, MomentsFromJoint{}, {norm.mean, norm.variance}, {count, weighted, spread});
  map(exec, BatchNormFromRunning{epsilon}, {norm.inv_std, norm.scale, norm.shift},
      {norm.mean, norm.variance, gamma, beta});
}

void update_running(Exec& exec, View running_mean, View running_variance, const NormVectors& norm,
                    float momentum, View count) {
  map(exec, UpdateRunning{momentum, 0}, {running_mean, running_variance},
      {running_mean, running_variance, norm.mean, norm.variance, count});
}

void joint_norm_gradients(Exec& exec, View dx, View sums, View joint, View count, View x, View dy,
                          const NormVectors& norm, bool relu, float beta, const SumOverRanks& sum) {
  norm_gradient_sums(exec, row(sums, 0), row(sums, 1), x, dy, norm, relu);
  if (dx.data == nullptr) return;
  const View dbeta = row(joint, 0), dgamma = row(joint, 1);
  convert(exec, joint, sums);
  sum_up(exec, sum, joint);
  map(exec, OwnShareOfSums{static_cast<double>(x.shape.pixels())}, {dbeta, dgamma},
      {dbeta, dgamma, count});
  batch_norm_backward(exec, dx, x, dy, norm, dbeta, dgamma, relu, beta);
}

}  // namespace ringfort
