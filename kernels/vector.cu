#include "kernels/vector.h"

#include "kernels/map.h"

namespace ringfort {
namespace {

struct AddScaled {
  float factor;
  template <class S>
  HD S operator()(S y, S x) const {
    return y + S(factor) * x;
  }
};

struct Subtract {
  template <class S>
  HD S operator()(S a, S b) const {
    return a - b;
  }
};

}  // namespace

void add_scaled(Exec& exec, View y, View x, float factor) {
  map(exec, AddScaled{factor}, {y}, {y, x});
}

void subtract(Exec& exec, View y, View a, View b) { map(exec, Subtract{}, {y}, {a, b}); }

}  // namespace ringfort
