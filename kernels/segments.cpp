#include "kernels/segments.h"

namespace ringfort {
namespace {

// The numbers on the device.
template <class T>
DeviceMemory on_device(Device device, const std::vector<T>& values) {
  static_assert(sizeof(T) % sizeof(int64_t) == 0);
  const auto numbers = static_cast<int64_t>(values.size() * sizeof(T) / sizeof(int64_t));
  View view{nullptr, Dtype::kInt64, vector_shape(numbers), Layout::kChannelsLast};
  DeviceMemory memory = allocate_on(device, std::max<int64_t>(8, view.bytes()), "a segment table");
  view.data = memory.get();
  write_now(device, view, values.data());
  return memory;
}

}  // namespace

SegmentTable::SegmentTable(Device device, const std::vector<SegmentPart>& segments)
    : segments_(static_cast<int64_t>(segments.size())) {
  std::vector<SegmentPart> list;
  std::vector<int64_t> first;
  for (const SegmentPart& segment : segments) {
    require(segment.first >= 0 && segment.first <= segment.last,
            "SegmentTable: a segment from {} to {}", segment.first, segment.last);
    const auto number = static_cast<int64_t>(first.size());
    first.push_back(static_cast<int64_t>(list.size()));
    for (int64_t at = segment.first; at < segment.last; at += kPartElements)
      list.push_back({at, std::min(segment.last, at + kPartElements), number});
  }
  parts_ = static_cast<int64_t>(list.size());
  first.push_back(parts_);
  list_ = on_device(device, list);
  first_ = on_device(device, first);
}

}  // namespace ringfort
