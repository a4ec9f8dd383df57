// Average, max and global pooling. Windows may overlap; windows that would leave the image, or the
// padding around it, are not formed.
#pragma once

#include "kernels/activation.h"

namespace ringfort {

struct PoolWindow {
  int size = 2;
  int stride = 2;
  int pad = 0;  // on each side, at most size / 2; max pooling only, which never picks from there
};

Shape pool_shape(const Shape& x, PoolWindow window);

void avg_pool_forward(Exec& exec, View y, View x, PoolWindow window);
void avg_pool_backward(Exec& exec, View dx, View dy, PoolWindow window);

// argmax: kUint8 of y's shape and layout, the position of the maximum in its window (first of
// equals), all that the backward needs. Errors: windows above 15 x 15.
void max_pool_forward(Exec& exec, View y, View argmax, View x, PoolWindow window);
void max_pool_backward(Exec& exec, View dx, View dy, View argmax, PoolWindow window);

// y (N, 1, 1, C) = mean over all pixels.
void global_avg_pool_forward(Exec& exec, View y, View x);
// dx = gate(dy / pixels) + beta dx, beta 0 or 1.
void global_avg_pool_backward(Exec& exec, View dx, View dy, const GradientGate& gate = {},
                              float beta = 0);

}  // namespace ringfort
