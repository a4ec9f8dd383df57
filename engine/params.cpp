#include "engine/params.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/weight_cache.h"
#include "kernels/activation.h"
#include "kernels/attack.h"
#include "kernels/device_memory.h"
#include "kernels/philox.h"
#include "kernels/slots.h"

namespace ringfort {
namespace {

constexpr int64_t kAlignElements = 16;  // 64 bytes of float32: every segment starts on a cache line

int64_t aligned(int64_t count) {
  return (count + kAlignElements - 1) / kAlignElements * kAlignElements;
}

// Numbers in the dtype of the master, where the device can be given them.
std::vector<std::byte> in_dtype(Dtype dtype, const std::vector<double>& values) {
  std::vector<std::byte> bytes(
      static_cast<size_t>(bytes_for(dtype, static_cast<int64_t>(values.size()))));
  const View view{bytes.data(), dtype, vector_shape(static_cast<int64_t>(values.size())),
                  Layout::kChannelsLast};
  for (size_t i = 0; i < values.size(); ++i)
    detail::store_element(view, static_cast<int64_t>(i), values[i]);
  return bytes;
}

void require_new_name(const std::vector<Segment>& table, const std::string& name) {
  const bool known =
      std::any_of(table.begin(), table.end(), [&](const Segment& s) { return s.name == name; });
  require(!known, "ParamStore: two entries are called '{}'; names must be unique", name);
}

}  // namespace

ParamStore::ParamStore(Dtype master) : master_dtype_(master) {
  require(master == Dtype::kFloat32 || master == Dtype::kFloat64,
          "ParamStore: master weights are float32 or float64, not {}", to_string(master));
}

ParamStore::~ParamStore() = default;

ParamId ParamStore::add(std::string name, const Shape& shape, ParamKind kind, Init init) {
  require(!master_, "ParamStore: '{}' was added after allocate()", name);
  require_new_name(segments_, name);
  segments_.push_back({std::move(name), shape, kind, 0, init});
  return static_cast<ParamId>(segments_.size() - 1);
}

StatId ParamStore::add_statistic(std::string name, int64_t channels, ParamKind kind) {
  require(!master_, "ParamStore: '{}' was added after allocate()", name);
  require_new_name(statistics_, name);
  statistics_.push_back({std::move(name), vector_shape(channels), kind, 0, Init::kDefault});
  return static_cast<StatId>(statistics_.size() - 1);
}

void ParamStore::allocate(bool with_copy, Device device) {
  require(!master_, "ParamStore: allocate() has been called already; addresses never change");
  pool_ = Pool(device);
  cache_ = std::make_unique<WeightCache>(device);
  int64_t total = 0;
  for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
    segment->offset = total;
    total += aligned(segment->shape.count());
  }
  std::vector<SegmentPart> ranges;
  for (const Segment& segment : segments_)
    ranges.push_back({segment.offset, segment.offset + segment.shape.count()});
  segment_table_ = SegmentTable(device, ranges);
  master_ = zeros(pool_, vector_shape(total), master_dtype_);
  gradient_ = zeros(pool_, vector_shape(total), master_dtype_);
  if (with_copy) copy_ = zeros(pool_, vector_shape(total), Dtype::kBFloat16);

  total = 0;
  for (Segment& segment : statistics_) {
    segment.offset = total;
    total += aligned(segment.shape.count());
  }
  statistics_buffer_ = Tensor(pool_, vector_shape(std::max<int64_t>(total, 1)), master_dtype_);
  std::vector<double> initial(static_cast<size_t>(statistics_buffer_.shape().count()));
  for (const Segment& segment : statistics_)
    std::fill_n(initial.begin() + segment.offset, segment.shape.count(),
                segment.kind == ParamKind::kRunningVariance ? 1.0 : 0.0);
  write_now(device, statistics_buffer_, in_dtype(master_dtype_, initial).data());
}

std::vector<ParamId> ParamStore::in_memory_order() const {
  std::vector<ParamId> order;
  for (size_t i = segments_.size(); i-- > 0;) order.push_back(static_cast<ParamId>(i));
  return order;
}

View ParamStore::slice(const Tensor& flat, const Segment& segment) {
  View view = flat.view();
  view.data = static_cast<std::byte*>(view.data) + bytes_for(view.dtype, segment.offset);
  view.shape = segment.shape;
  return view;
}

View ParamStore::statistic(StatId id) const {
  return slice(statistics_buffer_, statistics_.at(static_cast<size_t>(id)));
}

View ParamStore::compute(ParamId id, Dtype dtype) const {
  if (dtype == master_dtype_) return master(id);
  require(dtype == Dtype::kBFloat16 && has_copy(),
          "ParamStore: parameters are kept in {}{}; a pass in {} needs a compute copy",
          to_string(master_dtype_), has_copy() ? " and bfloat16" : "", to_string(dtype));
  return slice(copy_, segment(id));
}

void ParamStore::master_changed(Exec& exec) {
  if (copy_) convert(exec, copy_, master_);
  ++version_;
}

int64_t ParamStore::parameter_count() const {
  return std::accumulate(segments_.begin(), segments_.end(), int64_t{0},
                         [](int64_t sum, const Segment& s) { return sum + s.shape.count(); });
}

int64_t ParamStore::bytes_reserved() const {
  return pool_.bytes_reserved() + (cache_ ? cache_->bytes_reserved() : 0);
}

Tensor segment_flags(Pool& pool, const ParamStore& params, bool all) {
  std::vector<double> flags;
  for (const Segment& segment : params.segments())
    flags.push_back(all || is_weight(segment.kind) ? 1 : 0);
  Tensor on_device(pool, vector_shape(static_cast<int64_t>(flags.size())), Dtype::kFloat64);
  write_now(params.device(), on_device, flags.data());
  return on_device;
}

namespace {

bool is_norm(const Segment& segment) {
  return segment.kind == ParamKind::kNormScale || segment.kind == ParamKind::kNormShift;
}

// The value that u in (0, 1) stands for. weight: the segment itself, or that before a bias.
double drawn(const Segment& segment, const Segment& weight, double u) {
  constexpr double kBeyondTwo = 0.022750131948179207;  // of normal numbers, on each side
  const auto fan_in = static_cast<double>(weight.shape.per_sample());
  const auto fan_out = static_cast<double>(weight.shape.n * weight.shape.h * weight.shape.w);
  switch (segment.init) {
    case Init::kDefault:
      return 1 / std::sqrt(fan_in) * (2 * u - 1);
    case Init::kHeFanOut:
      return std::sqrt(2 / fan_out) * normal_quantile(u);
    case Init::kTruncatedFanIn:
      return std::sqrt(1 / fan_in) * normal_quantile(kBeyondTwo + (1 - 2 * kBeyondTwo) * u);
    case Init::kZero:
      return 0;
  }
  return 0;
}

}  // namespace

void initialize(Exec& exec, ParamStore& params, uint64_t seed) {
  if (exec.planned()) return;  // nothing would be kept of it
  const Segment* weight = nullptr;
  for (size_t i = 0; i < params.segments().size(); ++i) {
    const Segment& segment = params.segments()[i];
    std::vector<double> values(static_cast<size_t>(segment.shape.count()),
                               segment.kind == ParamKind::kNormScale ? 1.0 : 0.0);
    if (!is_norm(segment)) {
      if (segment.kind != ParamKind::kBias) weight = &segment;
      const RandomKey key{seed, Purpose::kInit, 0};
      for (size_t j = 0; j < values.size(); ++j) {
        const float u = uniform01(key.word(i, static_cast<uint32_t>(j)));
        values[j] = drawn(segment, weight ? *weight : segment, static_cast<double>(u));
      }
    }
    write_now(params.device(), params.master(static_cast<ParamId>(i)),
              in_dtype(params.master_dtype(), values).data());
  }
  params.master_changed(exec);
}

}  // namespace ringfort
