#include "kernels/norm.h"

#include "kernels/activation.h"
#include "kernels/indexing.h"
#include "kernels/norm_cuda.h"
#include "kernels/reduce.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

// The first element of every channel.
struct TakePivot {
  View pivot, x;
  HD void operator()(int64_t c) const {
    detail::store_element(pivot, c, detail::load_element<double>(x, element_offset(x, 0, 0, c)));
  }
};

struct FoldScaleRow {
  View folded, w, scale;
  template <class Row>
  HD void operator()(const Row& row, int64_t o) const {
    const int64_t length = w.shape.h * w.shape.w * w.shape.c, first = o * length;
    const double s = detail::load_element<double>(scale, o);
    const View from = w, to = folded;
    row.each(length, [=](int64_t i) {
      detail::store_element(to, first + i, detail::load_element<double>(from, first + i) * s);
    });
  }
};

template <bool kRelu>
void backward(Exec& exec, View dx, View x, View dy, const NormVectors& v, View dbeta, View dgamma,
              float beta) {
  const BatchNormBackward<kRelu> fn{1.0 / static_cast<double>(x.shape.pixels())};
  if (beta == 0)
    map_channels(exec, fn, {dx}, {x, dy}, {v.scale, v.shift, v.mean, v.inv_std, dbeta, dgamma});
  else
    map_channels(exec, fn, {dx}, {x, dy, dx}, {v.scale, v.shift, v.mean, v.inv_std, dbeta, dgamma});
}

template <bool kRelu>
void backward_running(Exec& exec, View dx, View x, View dy, const NormVectors& v, float beta) {
  if (beta == 0)
    map_channels(exec, RunningNormBackward<kRelu>{}, {dx}, {x, dy}, {v.scale, v.shift});
  else
    map_channels(exec, RunningNormBackward<kRelu>{}, {dx}, {x, dy, dx}, {v.scale, v.shift});
}

}  // namespace

void batch_norm_statistics(Exec& exec, const NormVectors& norm, View x, View gamma, View beta,
                           const View (&scratch)[3], double epsilon) {
  const View &sum = scratch[0], &sum_of_squares = scratch[1], &pivot = scratch[2];
  for_each(exec, x.shape.c, 1, TakePivot{pivot, x});
  channel_reduce(exec, PivotedMoments{}, {sum, sum_of_squares}, {x}, {pivot});
  map(exec, BatchNormFromMoments{static_cast<double>(x.shape.pixels()), epsilon},
      {norm.mean, norm.inv_std, norm.scale, norm.shift, norm.variance},
      {sum, sum_of_squares, pivot, gamma, beta});
}

void complete_norm(Exec& exec, const NormVectors& norm, View gamma, View beta, double epsilon) {
  map(exec, BatchNormFromSaved{epsilon}, {norm.scale, norm.shift, norm.variance},
      {norm.mean, norm.inv_std, gamma, beta});
}

void update_running(Exec& exec, View running_mean, View running_variance, const NormVectors& norm,
                    float momentum, int64_t count) {
  require(count > 1, "batch norm: one value per channel has no variance; use a larger batch");
  const double m = static_cast<double>(count);
  map(exec, UpdateRunning{momentum, m / (m - 1)}, {running_mean, running_variance},
      {running_mean, running_variance, norm.mean, norm.variance});
}

void running_norm(Exec& exec, const NormVectors& norm, View running_mean, View running_variance,
                  View gamma, View beta, double epsilon) {
  map(exec, BatchNormFromRunning{epsilon}, {norm.inv_std, norm.scale, norm.shift},
      {running_mean, running_variance, gamma, beta});
  convert(exec, norm.mean, running_mean);
}

void apply_norm(Exec& exec, View y, View x, const NormVectors& norm, const NormEpilogue& e) {
  if (e.residual.data)
    scale_shift_add_relu(exec, y, e.mask, x, e.residual, norm.scale, norm.shift);
  else if (e.mask.data)
    scale_shift_relu(exec, y, e.mask, x, norm.scale, norm.shift);
  else if (e.relu)
    scale_shift_relu(exec, y, x, norm.scale, norm.shift);
  else
    scale_shift(exec, y, x, norm.scale, norm.shift);
}

void batch_norm_forward(Exec& exec, View y, const NormVectors& norm, View x, View gamma, View beta,
                        const NormEpilogue& epilogue, const View (&scratch)[3], double epsilon) {
  if (exec.on_cuda() &&
      batch_norm_forward_cuda(exec, y, norm, x, gamma, beta, epilogue, scratch, epsilon))
    return;
  batch_norm_statistics(exec, norm, x, gamma, beta, scratch, epsilon);
  apply_norm(exec, y, x, norm, epilogue);
}

void batch_norm_gradients(Exec& exec, View dx, View dbeta, View dgamma, View x, View dy, View gamma,
                          const NormVectors& norm, bool relu, float beta) {
  if (exec.on_cuda() && dx.data && !relu && beta == 0 &&
      batch_norm_gradients_cuda(exec, dx, dbeta, dgamma, x, dy, gamma, norm))
    return;
  norm_gradient_sums(exec, dbeta, dgamma, x, dy, norm, relu);
  if (dx.data) batch_norm_backward(exec, dx, x, dy, norm, dbeta, dgamma, relu, beta);
}

void norm_gradient_sums(Exec& exec, View dbeta, View dgamma, View x, View dy, const NormVectors& v,
                        bool relu) {
  if (relu)
    channel_reduce(exec, BatchNormGradientSums<true>{}, {dbeta, dgamma}, {x, dy},
                   {v.scale, v.shift, v.mean, v.inv_std});
  else
    channel_reduce(exec, BatchNormGradientSums<false>{}, {dbeta, dgamma}, {x, dy},
                   {v.scale, v.shift, v.mean, v.inv_std});
}

void batch_norm_backward(Exec& exec, View dx, View x, View dy, const NormVectors& norm, View dbeta,
                         View dgamma, bool relu, float beta) {
  if (relu)
    backward<true>(exec, dx, x, dy, norm, dbeta, dgamma, beta);
  else
    backward<false>(exec, dx, x, dy, norm, dbeta, dgamma, beta);
}

void running_norm_backward(Exec& exec, View dx, View x, View dy, const NormVectors& norm, bool relu,
                           float beta) {
  if (relu)
    backward_running<true>(exec, dx, x, dy, norm, beta);
  else
    backward_running<false>(exec, dx, x, dy, norm, beta);
}

void fold_scale(Exec& exec, View folded, View w, View scale) {
  for_each_row(exec, w.shape.n, w.shape.per_sample(), FoldScaleRow{folded, w, scale});
}

}  // namespace ringfort
