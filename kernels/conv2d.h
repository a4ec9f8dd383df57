// 2-D convolution: three named functions, one per gradient, so that no backend has to guess which
// one is meant. The file that serves a call is chosen by dtype and device: conv2d_reference.h (a
// template on the scalar: the specification and the float64 oracle), conv2d_onednn.cpp (CPU,
// float32 and bfloat16).
#pragma once

#include <memory>

#include "kernels/exec.h"
#include "kernels/view.h"

namespace ringfort {

struct ConvOptions {
  int stride = 1;
  int pad = 0;  // zeros on each side
};

// (N, H, W, I) convolved with (O, kH, kW, I) -> (N, H', W', O)
Shape conv2d_shape(const Shape& x, const Shape& filter, ConvOptions options);

// A filter and what a backend has made of it (reordered, Winograd-transformed). Prepared once per
// version of the values and shared by all steps of an attack.
class PreparedFilter {
 public:
  PreparedFilter();
  ~PreparedFilter();
  PreparedFilter(PreparedFilter&&) noexcept;
  PreparedFilter& operator=(PreparedFilter&&) noexcept;

  struct Copies;  // defined by the backend
  Copies& copies() { return *copies_; }

 private:
  std::unique_ptr<Copies> copies_;
};

struct Filter {
  View w;                              // (O, kH, kW, I), float32, bfloat16 or float64
  uint64_t version = 0;                // changes whenever the values change
  PreparedFilter* prepared = nullptr;  // nullptr: prepare anew at each call
};

// What happens to the sums on their way out: y = relu?(conv + bias + (accumulate ? y : 0)).
struct ConvEpilogue {
  const View* bias = nullptr;  // (O), float32 (float64 with float64 views)
  bool accumulate = false;     // add to what y holds: the residual branch
  bool relu = false;
};

// y = epilogue(x * filter).
void conv2d_forward(Exec& exec, View y, View x, const Filter& filter, ConvOptions options,
                    ConvEpilogue epilogue = {});

// dx = the gradient of sum(dy . (x * filter)) with respect to x.
void conv2d_dgrad(Exec& exec, View dx, View dy, const Filter& filter, ConvOptions options);

// dw = beta * dw + the gradient with respect to the filter; dw (O, kH, kW, I) is float32 (or
// float64), beta 0 or 1.
void conv2d_wgrad(Exec& exec, View dw, View x, View dy, ConvOptions options, float beta);

}  // namespace ringfort
