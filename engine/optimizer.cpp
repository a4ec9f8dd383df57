#include "engine/optimizer.h"

#include <cmath>
#include <numeric>

#include "kernels/device_memory.h"
#include "kernels/update.h"

namespace ringfort {

Optimizer::Optimizer(ParamStore& params, const OptimizerOptions& options)
    : params_(params), options_(options), pool_(params.device()) {
  const Device device = params.device();
  const View master = params.flat_master();
  first_ = zeros(pool_, master.shape, master.dtype);
  if (has_moments()) {
    second_ = zeros(pool_, master.shape, master.dtype);
    means_ = Tensor(pool_, vector_shape(MeanWeights::kCount), Dtype::kFloat64);
    const MeanWeights none;
    write_now(device, means_, &none);
  }
  if (options.average) average_ = zeros(pool_, master.shape, master.dtype);
  rates_ = zeros(pool_, vector_shape(StepRates::kCount), Dtype::kFloat64);
  check_ = zeros(pool_, vector_shape(GradientCheck::kCount), Dtype::kFloat64);
  const Shape per_segment = vector_shape(params.segment_table().segments());
  squares_ = zeros(pool_, per_segment, Dtype::kFloat64);
  decay_ = segment_flags(pool_, params, options.decay_all);
  if (!layer_wise()) return;
  adapted_ = segment_flags(pool_, params, options.trust_all);
  w_squares_ = zeros(pool_, per_segment, Dtype::kFloat64);
  ratio_ = zeros(pool_, per_segment, Dtype::kFloat64);
}

void Optimizer::set(Exec& exec, const UpdateOptions& update) {
  const StepRates rates{update.lr, update.momentum, update.averaging};
  to_device(exec, rates_, &rates);
}

void Optimizer::take_check(Exec& exec, const View& loss) {
  segment_squares(exec, squares_, params_.flat_gradient(), params_.segment_table());
  // Once it is infinite a mean of squares stays so, and its weights never move again.
  const bool squared = has_moments() && params_.master_dtype() == Dtype::kFloat32;
  const double most =
      squared ? double{std::numeric_limits<float>::max()} : std::numeric_limits<double>::infinity();
  check_gradient(exec, check_, squares_, loss, options_.clip_grad, most);
}

GradientSize Optimizer::measure_gradient(Exec& exec, const View& loss) {
  take_check(exec, loss);
  std::vector<double> squares(static_cast<size_t>(squares_.view().count()));
  to_host(exec, squares.data(), squares_);
  GradientCheck found;
  to_host(exec, &found, check_);
  const double sum = std::accumulate(squares.begin(), squares.end(), 0.0);
  return {std::sqrt(sum), found.finite != 0};
}

void Optimizer::step(Exec& exec, const View& loss, const View& from) {
  take_check(exec, loss);
  if (means_) count_update(exec, means_, rates_, check_, options_.second_beta);
  const View master = params_.flat_master();
  const UpdateBuffers buffers{from.data != nullptr ? from : master,
                              master,
                              params_.flat_gradient(),
                              master,
                              average(),
                              params_.flat_copy(),
                              params_.segment_table(),
                              decay_,
                              rates_,
                              check_,
                              means_ && options_.bias_correction ? means_.view() : View{}};
  const double decay = options_.weight_decay;
  switch (options_.kind) {
    case OptimizerKind::kSgd:
      sgd_update(exec, buffers, first_, {decay, options_.nesterov});
      break;
    case OptimizerKind::kLars:
      lars_update(exec, buffers, {adapted_, w_squares_, squares_, ratio_}, first_,
                  {decay, options_.nesterov}, {options_.trust_coefficient, decay, options_.eps});
      break;
    case OptimizerKind::kAdam:
      adam_update(exec, buffers, first_, second_,
                  {{options_.second_beta, decay}, {options_.eps, 0}});
      break;
    case OptimizerKind::kAdamW:
      adam_update(exec, buffers, first_, second_,
                  {{options_.second_beta, 0}, {options_.eps, decay}});
      break;
    case OptimizerKind::kLamb:
      lamb_update(exec, buffers, {adapted_, w_squares_, squares_, ratio_}, first_, second_,
                  {options_.second_beta, 0}, {{options_.eps, decay}}, {options_.trust_clip});
      break;
  }
  params_.master_and_copy_changed();
}

void Optimizer::step(Exec& exec, const UpdateOptions& update, const View& loss, const View& from) {
  set(exec, update);
  step(exec, loss, from);
}

void Optimizer::restart_average(Exec& exec) {
  if (average_) copy_view(exec, average_, params_.flat_master());
}

std::vector<NamedView> Optimizer::state() const {
  std::vector<NamedView> all;
  if (has_moments())
    all = {{"optimizer.first_moment", first_},
           {"optimizer.second_moment", second_},
           {"optimizer.mean_weights", means_}};
  else
    all = {{"optimizer.momentum", first_}};
  if (average_) all.push_back({"optimizer.average", average_});
  return all;
}

}  // namespace ringfort
