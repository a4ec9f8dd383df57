// ParamStore: all parameters of a model in flat buffers: float32 master, its gradient, and a
// bfloat16 compute copy where a pass wants one. A table of segments says what lies where, in
// reverse order of use, so that gradients complete front to back while backward runs. Addresses
// never change after allocate(). Optimizers, weight perturbation, averaging, layer-wise norms,
// compressors and checkpoints are vector operations on these buffers with this one table.
//
// Running statistics are no parameters (nothing differentiates them) and live in a flat buffer of
// their own.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/tensor.h"
#include "kernels/conv2d.h"
#include "kernels/segments.h"

namespace ringfort {

enum class ParamKind {
  kConvWeight,
  kLinearWeight,
  kBias,
  kNormScale,
  kNormShift,
  kRunningMean,  // statistics, from here on
  kRunningVariance,
};

// Filters and matrices: what weight decay, trust ratios and weight perturbation always concern.
constexpr bool is_weight(ParamKind kind) {
  return kind == ParamKind::kConvWeight || kind == ParamKind::kLinearWeight;
}

// What a parameter's values are drawn from by initialize().
enum class Init {
  // PyTorch's: U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for filters, matrices and the biases after
  // them, fan_in being the inputs of one output, kH kW I; 1 and 0 for a norm's scale and
  // shift.
  kDefault,
  // N(0, 2 / fan_out), fan_out = O kH kW: He et al., "Delving Deep into Rectifiers" (2015).
  kHeFanOut,
  // N(0, 1 / fan_in) without what lies beyond two standard deviations: Haiku's.
  kTruncatedFanIn,
  kZero,
};

// Which of two sets of batch norms a pass goes through, where a model has both.
enum class Norms { kMain, kAuxiliary };
// The set that attacked images go through in training, and all images in validation and evaluation.
constexpr Norms attacked_norms(bool auxiliary) {
  return auxiliary ? Norms::kAuxiliary : Norms::kMain;
}

// Index into the segment table, in order of use (the order of add calls).
enum class ParamId : int { kNone = -1 };
enum class StatId : int { kNone = -1 };

struct Segment {
  std::string name;
  // filters (O, kH, kW, I), matrices (out, 1, 1, in) or (out, H, W, C), vectors (1, 1, 1, C)
  Shape shape;
  ParamKind kind = ParamKind::kBias;
  int64_t offset = 0;  // of the first element in the flat buffers
  Init init = Init::kDefault;
};

class ParamStore {
 public:
  // master: float32, or float64 for gradient checks.
  explicit ParamStore(Dtype master = Dtype::kFloat32);
  ~ParamStore();

  // Before allocate(). Names are unique.
  ParamId add(std::string name, const Shape& shape, ParamKind kind, Init init = Init::kDefault);
  StatId add_statistic(std::string name, int64_t channels, ParamKind kind);
  // Lays out the buffers: the parameter used last comes first. with_copy: keep a bfloat16 compute
  // copy.
  void allocate(bool with_copy = false, Device device = {});

  Device device() const { return pool_.device(); }
  Dtype master_dtype() const { return master_dtype_; }
  const std::vector<Segment>& segments() const { return segments_; }  // in order of use
  const std::vector<Segment>& statistics() const { return statistics_; }
  std::vector<ParamId> in_memory_order() const;  // order in which gradients complete
  const Segment& segment(ParamId id) const { return segments_.at(static_cast<size_t>(id)); }

  View flat_master() const { return master_; }
  View flat_gradient() const { return gradient_; }
  View flat_copy() const { return copy_ ? copy_.view() : View{}; }
  View flat_statistics() const { return statistics_buffer_; }
  bool has_copy() const { return static_cast<bool>(copy_); }

  // Where each parameter lies in the flat buffers, in order of use, for sums over each.
  const SegmentTable& segment_table() const { return segment_table_; }

  View master(ParamId id) const { return slice(master_, segment(id)); }
  View gradient(ParamId id) const { return slice(gradient_, segment(id)); }
  View statistic(StatId id) const;
  // The parameter as a pass of this dtype computes with it. Errors: bfloat16 without a compute
  // copy.
  View compute(ParamId id, Dtype dtype) const;

  // Versions change whenever values do; caches of folded and reordered weights compare them.
  uint64_t version() const { return version_; }
  uint64_t statistics_version() const { return statistics_version_; }
  // To be called after writing to the master buffer (refreshes the compute copy) ...
  void master_changed(Exec& exec);
  // ... after an update that has written the copy itself ...
  void master_and_copy_changed() { ++version_; }
  // ... and after writing statistics.
  void statistics_changed() { ++statistics_version_; }

  int64_t parameter_count() const;  // without alignment padding
  int64_t bytes_reserved() const;   // of device memory, with what the cache holds
  class WeightCache& cache() {
    return *cache_;
  }

 private:
  static View slice(const Tensor& flat, const Segment& segment);

  Dtype master_dtype_;
  Pool pool_;
  std::vector<Segment> segments_, statistics_;
  Tensor master_, gradient_, copy_, statistics_buffer_;
  SegmentTable segment_table_;
  uint64_t version_ = 1, statistics_version_ = 1;
  std::unique_ptr<class WeightCache> cache_;
};

// Per segment, float64, on the device: 1 for filters and matrices, and where `all` for every one;
// else 0.
Tensor segment_flags(Pool& pool, const ParamStore& params, bool all = false);

// Draws every parameter as its Init says. Depends on the seed and on the parameters' order only.
void initialize(Exec& exec, ParamStore& params, uint64_t seed);

}  // namespace ringfort
