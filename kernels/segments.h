// Launchers over flat buffers that know which segment (parameter) an element belongs to, whatever
// the segments' lengths. segment_reduce: sums per segment, for norms per layer; segment_map:
// elementwise, with numbers of the segment at hand. Segments are cut into parts of one size, a part
// is summed as reduce.h sums rows, and a segment adds its parts in order: reruns are bit-identical,
// for any number of threads. What lies between segments is neither read nor written.
#pragma once

#include <vector>

#include "kernels/device_memory.h"
#include "kernels/reduce.h"

namespace ringfort {

// Elements [first, last) of the flat buffers, and of which segment they are.
struct SegmentPart {
  int64_t first, last, segment = 0;
};

// Where the segments lie, on the device; made once.
class SegmentTable {
 public:
  static constexpr int64_t kPartElements = 8192;

  SegmentTable() = default;
  // segments: in any order, may be empty, may leave gaps.
  SegmentTable(Device device, const std::vector<SegmentPart>& segments);

  int64_t segments() const { return segments_; }
  int64_t parts() const { return parts_; }
  // On the device: the parts, segment by segment, and the number of each segment's first part, with
  // parts() behind the last.
  const SegmentPart* part_list() const { return static_cast<const SegmentPart*>(list_.get()); }
  const int64_t* first_parts() const { return static_cast<const int64_t*>(first_.get()); }

 private:
  int64_t segments_ = 0, parts_ = 0;
  DeviceMemory list_, first_;
};

}  // namespace ringfort

#ifdef RINGFORT_DEVICE_CODE
#include "kernels/segments_cuda.cuh"
#endif

namespace ringfort {
namespace detail {

// fn with the segment's numbers, one from each of `values`, behind its other arguments.
template <class S, class Fn, size_t kValues, size_t... kIndex>
auto with_values(const Fn& fn, const std::array<View, kValues>& values,
                 [[maybe_unused]] int64_t segment, std::index_sequence<kIndex...>) {
  return [fn, number = Results<S, kValues + 1>{{load_element<S>(values[kIndex], segment)...}}](
             auto... x) { return fn(x..., number.value[kIndex]...); };
}

template <size_t kViews>
void require_per_segment(const char* launcher, const std::array<View, kViews>& views,
                         const SegmentTable& table) {
  for (const View& view : views)
    require(view.count() == table.segments(), "{}: {} numbers for {} segments", launcher,
            view.count(), table.segments());
}

}  // namespace detail

// sums[k](s) = the sum over the segment's elements of the k-th term of fn(in..., value...). One
// sum: fn returns S; several: Results<S, kSums>. sums, values: float32 or float64, one number per
// segment; in: flat buffers of one length.
template <class Fn, size_t kSums, size_t kIn, size_t kValues = 0>
void segment_reduce(Exec& exec, const Fn& fn, const std::array<View, kSums>& sums,
                    const SegmentTable& table, const std::array<View, kIn>& in,
                    const std::array<View, kValues>& values = {}) {
  detail::require_same_elements("segment_reduce", in, in);
  detail::require_per_segment("segment_reduce", sums, table);
  detail::require_per_segment("segment_reduce", values, table);
  if (exec.planned()) return;
  const int64_t parts = table.parts();
  auto* partial = static_cast<double*>(
      exec.scratch(std::max<int64_t>(1, parts * static_cast<int64_t>(kSums * sizeof(double)))));
  detail::with_scalar(in, in, [&]<class S>(S) {
#ifdef RINGFORT_DEVICE_CODE
    if (exec.on_cuda()) return cuda::segment_reduce<S>(exec, fn, sums, table, in, values, partial);
#endif
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (in[0].count() > detail::kParallelElements)
    for (int64_t p = 0; p < parts; ++p) {
      const SegmentPart part = table.part_list()[p];
      const auto term = detail::with_values<S>(detail::resolved(fn), values, part.segment,
                                               std::make_index_sequence<kValues>{});
      double* const mine = partial + p * static_cast<int64_t>(kSums);
      std::fill_n(mine, kSums, 0.0);
      for (int64_t i = part.first; i < part.last; i += detail::kRun)
        detail::reduce_run<S, kSums>(term, in, i, std::min(detail::kRun, part.last - i), mine,
                                     std::make_index_sequence<kIn>{});
    }
    for (int64_t s = 0; s < table.segments(); ++s)
      for (size_t k = 0; k < kSums; ++k) {
        double sum = 0;
        for (int64_t p = table.first_parts()[s]; p < table.first_parts()[s + 1]; ++p)
          sum += partial[p * static_cast<int64_t>(kSums) + static_cast<int64_t>(k)];
        detail::store_element(sums[k], s, sum);
      }
  });
}

// out... = fn(in..., value...) for every element of every segment. out, in: flat buffers of one
// length, none of them kBit; outputs may alias inputs. values: as in segment_reduce.
template <class Fn, size_t kOut, size_t kIn, size_t kValues = 0>
void segment_map(Exec& exec, const Fn& fn, const std::array<View, kOut>& out,
                 const SegmentTable& table, const std::array<View, kIn>& in,
                 const std::array<View, kValues>& values = {}) {
  detail::require_same_elements("segment_map", out, in);
  detail::require_per_segment("segment_map", values, table);
  if (exec.planned()) return;
  detail::with_scalar(out, in, [&]<class S>(S) {
#ifdef RINGFORT_DEVICE_CODE
    if (exec.on_cuda()) return cuda::segment_map<S>(exec, fn, out, table, in, values);
#endif
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (in[0].count() > detail::kParallelElements)
    for (int64_t p = 0; p < table.parts(); ++p) {
      const SegmentPart part = table.part_list()[p];
      const auto formula = detail::with_values<S>(detail::resolved(fn), values, part.segment,
                                                  std::make_index_sequence<kValues>{});
      for (int64_t i = part.first; i < part.last; i += detail::kRun)
        detail::map_run<S, 0>(formula, out, in, i, std::min(detail::kRun, part.last - i),
                              std::array<const S*, 0>{});
    }
  });
}

}  // namespace ringfort
