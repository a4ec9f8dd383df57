// Dual numbers: a value and its derivative along one direction. A functor instantiated with Dual
// yields its exact derivative, so that no test of a gradient depends on a step size.
#pragma once

#include <cmath>

namespace ringfort {

struct Dual {
  double value = 0;
  double slope = 0;

  Dual() = default;
  explicit Dual(double v, double s = 0) : value(v), slope(s) {}

  Dual& operator+=(Dual b) {
    value += b.value;
    slope += b.slope;
    return *this;
  }
  friend Dual operator+(Dual a, Dual b) { return a += b; }
  friend Dual operator-(Dual a, Dual b) { return Dual(a.value - b.value, a.slope - b.slope); }
  friend Dual operator-(Dual a) { return Dual(-a.value, -a.slope); }
  friend Dual operator*(Dual a, Dual b) {
    return Dual(a.value * b.value, a.slope * b.value + a.value * b.slope);
  }
  friend Dual operator/(Dual a, Dual b) {
    const double quotient = a.value / b.value;
    return Dual(quotient, (a.slope - quotient * b.slope) / b.value);
  }

  // Comparisons see values only: a branch is taken as the real computation takes it.
  friend bool operator<(Dual a, Dual b) { return a.value < b.value; }
  friend bool operator>(Dual a, Dual b) { return a.value > b.value; }
  friend bool operator<=(Dual a, Dual b) { return a.value <= b.value; }
  friend bool operator>=(Dual a, Dual b) { return a.value >= b.value; }
  friend bool operator==(Dual a, Dual b) { return a.value == b.value; }
  friend bool operator!=(Dual a, Dual b) { return a.value != b.value; }

  // Found by argument-dependent lookup beside `using std::exp`.
  friend Dual exp(Dual a) {
    const double e = std::exp(a.value);
    return Dual(e, a.slope * e);
  }
  friend Dual log(Dual a) { return Dual(std::log(a.value), a.slope / a.value); }
  friend Dual sqrt(Dual a) {
    const double root = std::sqrt(a.value);
    return Dual(root, a.slope / (2 * root));
  }
  friend Dual abs(Dual a) { return a.value < 0 ? -a : a; }
};

// x with derivative 1: the variable a test differentiates by.
inline Dual variable(double x) { return Dual(x, 1); }

}  // namespace ringfort
