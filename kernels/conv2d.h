// 2-D convolution: three named functions, one per gradient, so that no backend has to guess which
// one is meant. The file that serves a call is chosen by dtype and device: conv2d_reference.h (a
// template on the scalar: the specification and the float64 oracle), conv2d_onednn.cpp (CPU,
// float32 and bfloat16).
#pragma once

#include <memory>

#include "kernels/activation.h"
#include "kernels/exec.h"
#include "kernels/view.h"

namespace ringfort {

struct ConvOptions {
  int stride = 1;
  int pad = 0;       // zeros on each side
  int pad_end = -1;  // if not -1: on the sides below and right, where `pad` is above and left only
  int end() const { return pad_end == -1 ? pad : pad_end; }
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

  // With zeros for further input channels, which cuDNN wants of a stem.
  struct Padded {
    DeviceMemory memory;
    View view;
    uint64_t version = 0;  // of the filter whose copy it is; 0: of none
  };
  Padded padded;

 private:
  std::unique_ptr<Copies> copies_;
};

// Whether convolutions of a CPU are fastest on views in blocks of 16 channels; else channels last.
bool conv2d_prefers_blocks();

struct Filter {
  View w;                              // (O, kH, kW, I), float32, bfloat16 or float64
  uint64_t version = 0;                // changes whenever the values change
  PreparedFilter* prepared = nullptr;  // nullptr: prepare anew at each call
};

// A norm by constants and its ReLU, as a second output of the convolution before it.
struct NormedOutput {
  View y;             // relu(scale y + shift), like the first output
  View mask;          // kBit: where it is positive; without data: not asked for
  View scale, shift;  // (O), as a bias
};

// What happens to the sums on their way out: y = relu?(conv + bias + residual). A backend does in
// the product's own kernel what it can, and the rest by kernels of ours (conv2d_epilogue.h).
struct ConvEpilogue {
  const View* bias = nullptr;      // (O), float32 (float64 with float64 views)
  const View* residual = nullptr;  // like y; y itself: add to what it holds
  bool relu = false;
  const View* mask = nullptr;  // kBit, like y: where y is positive
  const NormedOutput* normed = nullptr;
};

// y = epilogue(x * filter).
void conv2d_forward(Exec& exec, View y, View x, const Filter& filter, ConvOptions options,
                    const ConvEpilogue& epilogue = {});

// dx = gate(the gradient of sum(dy . (x * filter)) with respect to x) + (accumulate ? dx : 0).
struct DgradEpilogue {
  GradientGate gate = {};
  bool accumulate = false;
  View part = {};  // like dx: where the product goes if it must be written before it is added
};
void conv2d_dgrad(Exec& exec, View dx, View dy, const Filter& filter, ConvOptions options,
                  const DgradEpilogue& epilogue = {});

// dw = beta * dw + the gradient with respect to the filter; dw (O, kH, kW, I) is float32 (or
// float64), beta 0 or 1.
void conv2d_wgrad(Exec& exec, View dw, View x, View dy, ConvOptions options, float beta);

}  // namespace ringfort
