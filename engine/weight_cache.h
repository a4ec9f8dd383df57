// WeightCache: what is made of the weights once per version and then shared by all steps of an
// attack: reordered filters, filters with a norm folded in, the scale and shift of norms under
// running statistics.
#pragma once

#include <map>
#include <tuple>
#include <utility>

#include "engine/params.h"
#include "kernels/norm.h"

namespace ringfort {

// Parameters and running statistics of a batch norm. All C values each.
struct NormSet {
  ParamId gamma = ParamId::kNone, beta = ParamId::kNone;
  StatId mean = StatId::kNone, variance = StatId::kNone;
};

struct NormParams : NormSet {
  // A second set, for images of another distribution (Xie et al., "Adversarial Examples Improve
  // Image Recognition", 2020), where the model has one.
  NormSet auxiliary = {};
  double epsilon = 1e-5;
  float momentum = 0.1f;  // share of the new batch in the running statistics

  // The norm that a pass goes through, as its main set. Errors: there is no auxiliary one.
  NormParams of(Norms norms) const;
};

class WeightCache {
 public:
  explicit WeightCache(Device device) : pool_(device) {}

  // The filter as stored, with its prepared copies.
  Filter filter(ParamStore& params, ParamId weight, Dtype dtype);

  // Norm by running statistics: y = scale x + shift.
  const NormVectors& running(Exec& exec, ParamStore& params, const NormParams& norm);

  // conv then norm by running statistics = conv with this filter, plus this bias (float32; float64
  // with it).
  struct Folded {
    Filter filter;
    View bias;
  };
  Folded folded(Exec& exec, ParamStore& params, ParamId weight, const NormParams& norm,
                Dtype dtype);

  // Of device memory; without what libraries make of filters.
  int64_t bytes_reserved() const { return pool_.bytes_reserved(); }

  // From now on everything is made anew when it is next asked for.
  void forget();

 private:
  using Version = std::pair<uint64_t, uint64_t>;  // of parameters and of statistics
  struct Norm {
    Version version{0, 0};
    Tensor storage;
    NormVectors vectors;
  };
  struct FoldedFilter {
    Version version{0, 0};
    uint64_t changes = 0;
    Tensor weight;
    PreparedFilter prepared;
  };
  static Version version_of(const ParamStore& params) {
    return {params.version(), params.statistics_version()};
  }

  Pool pool_;
  std::map<std::pair<ParamId, Dtype>, PreparedFilter> plain_;
  std::map<ParamId, Norm> norms_;                                       // keyed by gamma
  std::map<std::tuple<ParamId, ParamId, Dtype>, FoldedFilter> folded_;  // by filter and gamma
};

// Five vectors of `channels` values cut out of `storage` (5 x channels).
NormVectors norm_vectors(const Tensor& storage, int64_t channels);

}  // namespace ringfort
