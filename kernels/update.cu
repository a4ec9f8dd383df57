#include "kernels/update.h"

#include "kernels/map.h"

namespace ringfort {

void sgd_update(Exec& exec, View w, View m, View grad, View copy, const SgdUpdate& update) {
  if (copy.data == nullptr)
    map(exec, update, {w, m}, {w, m, grad});
  else
    map(exec, SgdUpdateWithCopy{update}, {w, m, copy}, {w, m, grad});
}

}  // namespace ringfort
