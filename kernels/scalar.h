// The few scalar functions that functors need on every scalar type: float, double and, in tests,
// dual numbers (which bring their own overloads, found by argument-dependent lookup). Subgradients:
// d|x|/dx, drelu/dx = 0 at 0.
#pragma once

#include <cmath>

#include "kernels/hd.h"

namespace ringfort {

template <class S>
HD inline S minimum(S a, S b) {
  return b < a ? b : a;
}
template <class S>
HD inline S maximum(S a, S b) {
  return a < b ? b : a;
}
template <class S>
HD inline S clamp(S x, S low, S high) {
  return minimum(maximum(x, low), high);
}
// sign(0) = 0: a pixel without gradient stays where it is.
template <class S>
HD inline S sign(S x) {
  return S((x > S(0)) - (x < S(0)));
}

}  // namespace ringfort
