#include "engine/weight_cache.h"

namespace ringfort {

NormParams NormParams::of(Norms norms) const {
  if (norms == Norms::kMain) return *this;
  require(auxiliary.gamma != ParamId::kNone,
          "a pass asks for auxiliary norms, and the model was made without; make it with "
          "auxiliary_norms");
  NormParams chosen = *this;
  static_cast<NormSet&>(chosen) = auxiliary;
  return chosen;
}

NormVectors norm_vectors(const Tensor& storage, int64_t channels) {
  const auto row = [&](int64_t i) {
    return reshaped(storage.view().samples(i, 1), vector_shape(channels));
  };
  return {row(0), row(1), row(2), row(3), row(4)};
}

Filter WeightCache::filter(ParamStore& params, ParamId weight, Dtype dtype) {
  return {params.compute(weight, dtype), params.version(), &plain_[{weight, dtype}]};
}

const NormVectors& WeightCache::running(Exec& exec, ParamStore& params, const NormParams& norm) {
  Norm& cached = norms_[norm.gamma];
  if (cached.version == version_of(params)) return cached.vectors;
  const int64_t channels = params.segment(norm.gamma).shape.c;
  if (!cached.storage) {
    cached.storage = Tensor(pool_, matrix_shape(5, channels), params.master_dtype());
    cached.vectors = norm_vectors(cached.storage, channels);
  }
  running_norm(exec, cached.vectors, params.statistic(norm.mean), params.statistic(norm.variance),
               params.master(norm.gamma), params.master(norm.beta), norm.epsilon);
  cached.version = version_of(params);
  return cached.vectors;
}

void WeightCache::forget() {
  for (auto& [key, filter] : plain_) filter.padded.version = 0;
  for (auto& [gamma, norm] : norms_) norm.version = {0, 0};
  for (auto& [key, filter] : folded_) {
    filter.version = {0, 0};
    filter.prepared.padded.version = 0;
  }
}

WeightCache::Folded WeightCache::folded(Exec& exec, ParamStore& params, ParamId weight,
                                        const NormParams& norm, Dtype dtype) {
  const NormVectors& vectors = running(exec, params, norm);
  FoldedFilter& cached = folded_[{weight, norm.gamma, dtype}];
  if (cached.version != version_of(params)) {
    // Folded from the master, so that a bfloat16 filter is rounded once.
    const View master = params.master(weight);
    if (!cached.weight) cached.weight = Tensor(pool_, master.shape, dtype);
    fold_scale(exec, cached.weight, master, vectors.scale);
    cached.version = version_of(params);
    ++cached.changes;
  }
  return {{cached.weight, cached.changes, &cached.prepared}, vectors.shift};
}

}  // namespace ringfort
