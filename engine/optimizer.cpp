#include "engine/optimizer.h"

#include "kernels/device_memory.h"
#include "kernels/update.h"

namespace ringfort {
namespace {

bool is_weight(ParamKind kind) {
  return kind == ParamKind::kConvWeight || kind == ParamKind::kLinearWeight;
}

// One bit per element of the flat buffers: set in filters and matrices.
std::vector<uint8_t> bits_of_weights(const ParamStore& params) {
  std::vector<uint8_t> bits(
      static_cast<size_t>(bytes_for(Dtype::kBit, params.flat_master().count())));
  for (const Segment& segment : params.segments())
    if (is_weight(segment.kind))
      for (int64_t i = segment.offset; i < segment.offset + segment.shape.count(); ++i)
        bits[static_cast<size_t>(i / 8)] |= static_cast<uint8_t>(1u << (i % 8));
  return bits;
}

}  // namespace

Sgd::Sgd(ParamStore& params, SgdOptions options)
    : params_(params), options_(options), pool_(params.device()) {
  const View master = params.flat_master();
  momentum_ = Tensor(pool_, master.shape, master.dtype);
  clear_now(params.device(), momentum_);
  lr_ = Tensor(pool_, vector_shape(1), Dtype::kFloat32);
  clear_now(params.device(), lr_);
  if (options.clip_grad > 0) {
    squares_ = Tensor(pool_, vector_shape(params.segment_table().segments()), Dtype::kFloat64);
    scale_ = Tensor(pool_, vector_shape(1), Dtype::kFloat32);
  }
  if (options.decay_all) return;
  decays_ = Tensor(pool_, master.shape, Dtype::kBit);
  write_now(params.device(), decays_, bits_of_weights(params).data());
}

void Sgd::set_lr(Exec& exec, double lr) {
  const auto narrow = static_cast<float>(lr);
  to_device(exec, lr_, &narrow);
}

void Sgd::step(Exec& exec) {
  if (scale_) {
    segment_squares(exec, squares_, params_.flat_gradient(), params_.segment_table());
    clip_scale(exec, scale_, squares_, options_.clip_grad);
  }
  // Padding between segments is zero and stays zero, so the update runs across it.
  const SgdUpdate update{0,
                         static_cast<float>(options_.momentum),
                         static_cast<float>(options_.weight_decay),
                         options_.nesterov,
                         lr_.as<float>(),
                         scale_ ? scale_.as<float>() : nullptr};
  sgd_update(exec, params_.flat_master(), momentum_, params_.flat_gradient(), params_.flat_copy(),
             decays_ ? decays_.view() : View{}, update);
  params_.master_and_copy_changed();
}

void Sgd::step(Exec& exec, double lr) {
  set_lr(exec, lr);
  step(exec);
}

}  // namespace ringfort
