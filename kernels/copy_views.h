// Copies of several arrays in one launch.
#pragma once

#include <utility>
#include <vector>

#include "kernels/exec.h"
#include "kernels/view.h"

namespace ringfort {

struct ViewCopy {
  View to, from;  // as for copy_view; they start on 16 bytes
};

// copy_view of each, on a GPU by one kernel for all. Errors: dtypes or numbers of elements differ.
void copy_views(Exec& exec, const std::vector<ViewCopy>& copies);

}  // namespace ringfort
