// Where element (n, pixel, c) of a view lies, for kernels that do not walk elements in order.
#pragma once

#include "kernels/hd.h"
#include "kernels/view.h"

namespace ringfort {

// pixel = h * W + w
HD inline int64_t element_offset(const View& view, int64_t n, int64_t pixel, int64_t c) {
  const int64_t plane = view.shape.h * view.shape.w;
  if (view.layout == Layout::kBlocked16)
    return ((n * (view.shape.c / 16) + c / 16) * plane + pixel) * 16 + c % 16;
  return (n * plane + pixel) * view.shape.c + c;
}

}  // namespace ringfort
