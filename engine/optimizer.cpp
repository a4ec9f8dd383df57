#include "engine/optimizer.h"

#include "kernels/device_memory.h"
#include "kernels/update.h"

namespace ringfort {
namespace {

View range_of(View flat, int64_t first, int64_t count) {
  if (flat.data == nullptr) return flat;
  flat.data = static_cast<std::byte*>(flat.data) + bytes_for(flat.dtype, first);
  flat.shape = vector_shape(count);
  return flat;
}

bool is_weight(ParamKind kind) {
  return kind == ParamKind::kConvWeight || kind == ParamKind::kLinearWeight;
}

}  // namespace

Sgd::Sgd(ParamStore& params, SgdOptions options)
    : params_(params), options_(options), pool_(params.device()) {
  const View master = params.flat_master();
  momentum_ = Tensor(pool_, master.shape, master.dtype);
  clear_now(params.device(), momentum_);
  // Padding between segments is zero and stays zero, so that a range may run across it.
  for (const ParamId id : params.in_memory_order()) {
    const Segment& segment = params.segment(id);
    const float decay = options.decay_all || is_weight(segment.kind)
                            ? static_cast<float>(options.weight_decay)
                            : 0.0f;
    if (ranges_.empty() || ranges_.back().weight_decay != decay)
      ranges_.push_back({segment.offset, 0, decay});
    ranges_.back().count = segment.offset + segment.shape.count() - ranges_.back().first;
  }
}

void Sgd::step(Exec& exec, double lr) {
  for (const Range& range : ranges_) {
    const auto part = [&](View flat) { return range_of(flat, range.first, range.count); };
    sgd_update(exec, part(params_.flat_master()), part(momentum_), part(params_.flat_gradient()),
               part(params_.flat_copy()),
               {static_cast<float>(lr), static_cast<float>(options_.momentum), range.weight_decay,
                options_.nesterov});
  }
  params_.master_and_copy_changed();
}

}  // namespace ringfort
