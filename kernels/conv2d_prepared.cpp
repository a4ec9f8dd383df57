#include "kernels/conv2d_prepared.h"

#include <algorithm>
#include <cstring>

namespace ringfort {
namespace {

using dnnl::memory;

// (O, kH, kW, I) as oneDNN's (O, I, kH, kW), or as (I, O, kH, kW) where input and output channels
// change places.
memory::desc stored_filter(const FilterForm::Source& source) {
  const auto& [outputs, height, width, ignored] = source.filter;
  const memory::data_type type = onednn_type(source.dtype);
  if (source.rotated)
    return {{source.inputs, outputs, height, width}, type, memory::format_tag::ihwo};
  return {{outputs, source.inputs, height, width}, type, memory::format_tag::ohwi};
}

// The order in which F(4x4, 3x3) wants its filters; inputs 0 where the target is anything else.
WinogradOrder winograd_order(const FilterForm::Source& source, const memory::desc& target) {
  const auto& wino = target.data.format_desc.wino_desc;
  const bool ours = target.data.format_kind == dnnl_format_kind_wino &&
                    wino.wino_format == dnnl_wino_wei_OBaaIBOIio && wino.r == 3 &&
                    wino.alpha == 6 && wino.ic_block == 16 && wino.oc_block == 16 &&
                    source.dtype == Dtype::kFloat32 && source.inputs == source.filter.c;
  if (!ours) return {};
  return {wino.ic, wino.oc, wino.ic2_block, wino.oc2_block};
}

}  // namespace

FilterForm::FilterForm(OneDnn& library, const Source& source, const memory::desc& target)
    : source_(source), target_(target), sequence_(library.engine()) {
  winograd_ = winograd_order(source, target);
  if (is_winograd()) return;
  const bool rearranged = source.rotated || source.inputs != source.filter.c;
  const memory::desc stored = stored_filter(source);
  as_stored_ = !rearranged && stored == target;
  if (rearranged) rearranged_bytes_ = aligned64(static_cast<int64_t>(stored.get_size()));
  const memory from = sequence_.at(Base::kFirst, stored), to = sequence_.at(Base::kOutput, target);
  try {
    sequence_.add_reorder(from, to);
  } catch (const dnnl::error&) {  // the Winograd transform reads plain filters only
    const memory plain =
        sequence_.scratch({stored.dims(), stored.data_type(), memory::format_tag::oihw});
    sequence_.add_reorder(from, plain);
    sequence_.add_reorder(plain, to);
  }
}

void FilterForm::prepare(OneDnn& library, int threads, void* prepared, void* w, void* scratch) {
  if (is_winograd()) {
    winograd_filter(static_cast<float*>(prepared), static_cast<const float*>(w), source_.rotated,
                    winograd_, threads);
    return;
  }
  Bases bases = {};
  bases[static_cast<size_t>(Base::kFirst)] = w;
  bases[static_cast<size_t>(Base::kOutput)] = prepared;
  bases[static_cast<size_t>(Base::kScratch)] = static_cast<std::byte*>(scratch) + rearranged_bytes_;
  if (rearranged_bytes_ > 0) {
    rearrange(threads, scratch, w);
    bases[static_cast<size_t>(Base::kFirst)] = scratch;
  }
  sequence_.run(library.stream(), bases);
}

void FilterForm::rearrange(int threads, void* to, const void* w) const {
  const int64_t positions = source_.filter.h * source_.filter.w;
  const auto in_bytes = static_cast<size_t>(bytes_for(source_.dtype, source_.filter.c));
  const auto out_bytes = static_cast<size_t>(bytes_for(source_.dtype, source_.inputs));
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < source_.filter.n * positions; ++row) {
    const int64_t first = row / positions * positions;
    const int64_t turned = source_.rotated ? first + positions - 1 - row % positions : row;
    std::byte* out = static_cast<std::byte*>(to) + static_cast<size_t>(turned) * out_bytes;
    std::memcpy(out, static_cast<const std::byte*>(w) + static_cast<size_t>(row) * in_bytes,
                in_bytes);
    std::memset(out + in_bytes, 0, out_bytes - in_bytes);
  }
}

PreparedFilter::PreparedFilter() : copies_(std::make_unique<Copies>()) {}
PreparedFilter::~PreparedFilter() = default;
PreparedFilter::PreparedFilter(PreparedFilter&&) noexcept = default;
PreparedFilter& PreparedFilter::operator=(PreparedFilter&&) noexcept = default;

PreparedFilter::Copies::Copy& PreparedFilter::Copies::of(const std::shared_ptr<FilterForm>& form) {
  for (Copy& copy : list)
    if (copy.form == form) return copy;
  list.push_back({form, allocate_aligned(form->bytes(), "prepared filters"), false, 0});
  return list.back();
}

}  // namespace ringfort
