// What stands in for a library's batch norm where none was built: kernels of ours do it.
#include "kernels/norm_cuda.h"

namespace ringfort {

bool batch_norm_forward_cuda(Exec&, View, const NormVectors&, View, View, View, const NormEpilogue&,
                             const View (&)[3], double) {
  return false;
}

bool batch_norm_gradients_cuda(Exec&, View, View, View, View, View, View, const NormVectors&) {
  return false;
}

}  // namespace ringfort
