// segment_reduce: one sum per segment of flat buffers, whatever the segments' lengths: norms per
// layer, for clipping and layer-wise methods. Segments are cut into parts of one size, a part is
// summed as reduce.h sums rows, and a segment adds its parts in order: reruns are bit-identical,
// for any number of threads.
#pragma once

#include <vector>

#include "kernels/device_memory.h"
#include "kernels/reduce.h"

namespace ringfort {

// Elements [first, last) of the flat buffers.
struct SegmentPart {
  int64_t first, last;
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

// sums(s) = sum over the segment's elements of fn(in...). sums: float32 or float64, one per
// segment; inputs: flat buffers of one length.
template <class Fn, size_t kIn>
void segment_reduce(Exec& exec, const Fn& fn, const View& sums, const SegmentTable& table,
                    const View (&inputs)[kIn]) {
  const auto in = std::to_array(inputs);
  detail::require_same_elements("segment_reduce", in, in);
  require(sums.count() == table.segments(), "segment_reduce: {} sums for {} segments", sums.count(),
          table.segments());
  if (exec.planned()) return;
  auto* partial = static_cast<double*>(
      exec.scratch(std::max<int64_t>(1, table.parts()) * static_cast<int64_t>(sizeof(double))));
  detail::with_scalar(in, in, [&]<class S>(S) {
#ifdef RINGFORT_DEVICE_CODE
    if (exec.on_cuda()) return cuda::segment_reduce<S>(exec, fn, sums, table, in, partial);
#endif
#pragma omp parallel for schedule(static) \
    num_threads(exec.threads()) if (in[0].count() > detail::kParallelElements)
    for (int64_t p = 0; p < table.parts(); ++p) {
      const SegmentPart part = table.part_list()[p];
      partial[p] = 0;
      for (int64_t i = part.first; i < part.last; i += detail::kRun)
        detail::reduce_run<S, 1>(fn, in, i, std::min(detail::kRun, part.last - i), partial + p,
                                 std::make_index_sequence<kIn>{});
    }
    for (int64_t s = 0; s < table.segments(); ++s) {
      double sum = 0;
      for (int64_t p = table.first_parts()[s]; p < table.first_parts()[s + 1]; ++p)
        sum += partial[p];
      detail::store_element(sums, s, sum);
    }
  });
}

}  // namespace ringfort
