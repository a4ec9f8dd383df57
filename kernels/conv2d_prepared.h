// What oneDNN wants of a filter before it can multiply with it (another order of its elements,
// turned, padded, Winograd-transformed), and the copies of a filter kept in those forms, one per
// form, for one version of its values.
#pragma once

#include <vector>

#include "kernels/aligned.h"
#include "kernels/conv2d.h"
#include "kernels/onednn.h"
#include "kernels/winograd_filter.h"

namespace ringfort {

// One form of filters of one shape. Problems that differ in their batch only share it.
class FilterForm {
 public:
  struct Source {
    Shape filter;  // (O, kH, kW, I)
    Dtype dtype = Dtype::kFloat32;
    bool rotated = false;  // w'[i, kh, kw, o] = w[o, kH-1-kh, kW-1-kw, i]
    int64_t inputs = 0;    // I, or more: zeros are added
    friend bool operator==(const Source&, const Source&) = default;
  };

  FilterForm(OneDnn& library, const Source& source, const dnnl::memory::desc& target);

  bool is(const Source& source, const dnnl::memory::desc& target) const {
    return source_ == source && target_ == target;
  }
  bool as_stored() const { return as_stored_; }  // the filter can be used where it lies
  int64_t bytes() const { return static_cast<int64_t>(target_.get_size()); }
  int64_t scratch_bytes() const { return rearranged_bytes_ + sequence_.scratch_bytes(); }

  // Writes the form of `w` to `prepared`. scratch: scratch_bytes(), 64-byte aligned.
  void prepare(OneDnn& library, int threads, void* prepared, void* w, void* scratch);

 private:
  void rearrange(int threads, void* to, const void* w) const;
  bool is_winograd() const { return winograd_.inputs > 0; }

  Source source_;
  dnnl::memory::desc target_;
  bool as_stored_ = false;
  int64_t rearranged_bytes_ = 0;  // 0: nothing to turn or pad
  Sequence sequence_;             // from the (rearranged) filter to target
  WinogradOrder winograd_ = {};   // set where our own transform writes the target instead
};

struct PreparedFilter::Copies {
  struct Copy {
    std::shared_ptr<FilterForm> form;
    AlignedMemory memory;
    bool filled = false;
    uint64_t version = 0;
  };
  std::vector<Copy> list;  // a handful at most

  Copy& of(const std::shared_ptr<FilterForm>& form);  // made if it is not there yet
};

}  // namespace ringfort
