// Slopes by central differences, with a word on whether they can be trusted: a network of ReLUs has
// kinks, and a difference taken across one measures neither side.
#pragma once

#include <cmath>

namespace ringfort::testing {

struct Slope {
  double value = 0;
  // From function values alone, so a wrong gradient cannot hide behind it: halving the step changes
  // the slope by less than 1e-7 (a kink inside the step changes it at first order), and the two
  // one-sided slopes agree to 1 % (a kink at the point itself parts them).
  bool smooth = false;
};

// The derivative of f at 0. Steps h and h/2, extrapolated: an error of order h^4 and, for f of
// order 1, of 1e-16/h.
template <class F>
Slope central_slope(const F& f, double h) {
  const double above = f(h), below = f(-h);
  const double wide = (above - below) / (2 * h);
  const double narrow = (f(h / 2) - f(-h / 2)) / h;
  const double bend = std::abs(above - 2 * f(0.0) + below) / (2 * h);
  Slope slope;
  slope.value = (4 * narrow - wide) / 3;
  slope.smooth =
      std::abs(wide - narrow) <= 1e-7 * std::abs(narrow) && bend <= 0.01 * std::abs(narrow);
  return slope;
}

}  // namespace ringfort::testing
