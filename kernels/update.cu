#include "kernels/update.h"

#include "kernels/map.h"

namespace ringfort {

void sgd_update(Exec& exec, View w, View m, View grad, View copy, View decays,
                const SgdUpdate& update) {
  const auto launch = [&](const auto& formula, const auto& outputs) {
    if (decays.data == nullptr)
      map(exec, formula, outputs, {w, m, grad});
    else
      map(exec, formula, outputs, {w, m, grad, decays});
  };
  if (copy.data == nullptr) {
    const View outputs[] = {w, m};
    launch(update, outputs);
  } else {
    const View outputs[] = {w, m, copy};
    launch(SgdUpdateWithCopy{update}, outputs);
  }
}

}  // namespace ringfort
