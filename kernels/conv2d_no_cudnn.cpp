// What stands in for convolution on a CUDA device where no backend was built: a sentence.
#include "kernels/conv2d_cuda.h"

namespace ringfort {
namespace {

[[noreturn]] void refuse(const char* function) {
  fail("{}: this build has no CUDA convolution; use --device cpu", function);
}

}  // namespace

void conv2d_forward_cuda(Exec&, View, View, const Filter&, ConvOptions, const ConvEpilogue&) {
  refuse("conv2d_forward");
}

void conv2d_dgrad_cuda(Exec&, View, View, const Filter&, ConvOptions, const DgradEpilogue&) {
  refuse("conv2d_dgrad");
}

void conv2d_wgrad_cuda(Exec&, View, View, View, ConvOptions, bool) { refuse("conv2d_wgrad"); }

}  // namespace ringfort
