// Sums and multiples of whole buffers.
#pragma once

#include "kernels/exec.h"
#include "kernels/view.h"

namespace ringfort {

void add_scaled(Exec& exec, View y, View x, float factor);  // y += factor x
void subtract(Exec& exec, View y, View a, View b);          // y = a - b; y may be either

}  // namespace ringfort
