#include "kernels/copy_views.h"

#include <cstring>

#include "kernels/device_memory.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

constexpr int64_t kGroup = 16;  // bytes that one call moves

// Call i moves a group of the array that begins at group first <= i.
struct CopyGroups {
  static constexpr int kMost = 16;
  struct Array {
    std::byte* to;
    const std::byte* from;
    int64_t bytes, first;
  };
  Array arrays[kMost];
  int count = 0;

  HD void operator()(int64_t i) const {
    int k = count - 1;
    while (arrays[k].first > i) --k;
    const Array& array = arrays[k];
    const int64_t at = (i - array.first) * kGroup;
    auto* to = static_cast<std::byte*>(__builtin_assume_aligned(array.to + at, kGroup));
    const auto* from =
        static_cast<const std::byte*>(__builtin_assume_aligned(array.from + at, kGroup));
    if (at + kGroup <= array.bytes) {
      memcpy(to, from, kGroup);
    } else {
      for (int64_t b = 0; b < array.bytes - at; ++b) to[b] = from[b];
    }
  }
};

}  // namespace

void copy_views(Exec& exec, const std::vector<ViewCopy>& copies) {
  CopyGroups groups;
  int64_t total = 0;
  const auto launch = [&] {
    for_each(exec, total, kGroup, groups);
    groups.count = 0;
    total = 0;
  };
  for (const ViewCopy& copy : copies) {
    require_copyable(copy.to, copy.from);
    for (const View& view : {copy.to, copy.from})
      require(reinterpret_cast<uintptr_t>(view.data) % kGroup == 0,
              "copy_views: an array does not start on {} bytes", kGroup);
    if (!exec.on_cuda()) {  // the C library's copy is the faster one
      copy_view(exec, copy.to, copy.from);
      continue;
    }
    if (groups.count == CopyGroups::kMost) launch();
    const int64_t bytes = copy.from.bytes();
    groups.arrays[groups.count++] = {copy.to.as<std::byte>(), copy.from.as<const std::byte>(),
                                     bytes, total};
    total += (bytes + kGroup - 1) / kGroup;
  }
  if (groups.count > 0) launch();
}

}  // namespace ringfort
