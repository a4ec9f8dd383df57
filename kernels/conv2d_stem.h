// The input gradient of a network's first convolution on a CPU: few input channels (grey or
// colour), stride 1, float32. oneDNN has only slow code for it; padding the channels to 16 would do
// 5 to 16 times the work, in every step of every attack.
#pragma once

#include "kernels/conv2d.h"

namespace ringfort {

// At most 4 input channels, channels-last dx, blocked dy, stride 1, float32.
bool has_stem_dgrad(const View& dx, const View& dy, const View& w, ConvOptions options);

// As conv2d_dgrad. REQUIRES: has_stem_dgrad.
void conv2d_dgrad_stem(Exec& exec, View dx, View dy, const View& w, ConvOptions options);

}  // namespace ringfort
