#include "kernels/update.h"

#include "kernels/map.h"
#include "kernels/rows.h"

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

void segment_squares(Exec& exec, View squares, View flat, const SegmentTable& table) {
  segment_reduce(exec, Square{}, squares, table, {flat});
}

namespace {

struct ClipScale {
  View scale, squares;
  int64_t segments;
  double most;
  HD void operator()(int64_t) const {
    double sum = 0;
    for (int64_t s = 0; s < segments; ++s) sum += detail::load_element<double>(squares, s);
    detail::store_element(scale, 0, sum > most * most ? most / std::sqrt(sum) : 1.0);
  }
};

}  // namespace

void clip_scale(Exec& exec, View scale, View squares, double most) {
  for_each(exec, 1, squares.count(), ClipScale{scale, squares, squares.count(), most});
}

}  // namespace ringfort
