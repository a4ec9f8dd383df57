#include "kernels/perturb.h"

#include "kernels/map.h"

namespace ringfort {
namespace {

struct SquaresOfTwo {
  template <class S>
  HD Results<S, 2> operator()(S a, S b) const {
    return {{a * a, b * b}};
  }
};

struct Perturb {
  template <class S>
  HD Results<S, 2> operator()(S w, S gradient, S factor) const {
    return {{w + factor * gradient, w}};
  }
};

struct PerturbWithCopy {
  template <class S>
  HD Results<S, 3> operator()(S w, S gradient, S factor) const {
    const Results<S, 2> next = Perturb{}(w, gradient, factor);
    return {{next.value[0], next.value[1], next.value[0]}};
  }
};

}  // namespace

void perturb_weights(Exec& exec, View w, View kept, View copy, View gradient,
                     const SegmentTable& table, const PerturbationNorms& norms, double gamma) {
  segment_reduce(exec, SquaresOfTwo{}, std::array{norms.w_squares, norms.g_squares}, table,
                 std::array{w, gradient});
  map(exec, PerturbationFactor{gamma}, {norms.factor},
      {norms.w_squares, norms.g_squares, norms.perturbed});
  const std::array inputs = {w, gradient};
  if (copy.data == nullptr)
    segment_map(exec, Perturb{}, std::array{w, kept}, table, inputs, std::array{norms.factor});
  else
    segment_map(exec, PerturbWithCopy{}, std::array{w, kept, copy}, table, inputs,
                std::array{norms.factor});
}

}  // namespace ringfort
