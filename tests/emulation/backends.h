// What stands in for cuDNN on the emulated device (backends.cpp).
#pragma once

namespace ringfort::emulation {

// From now on a convolution does its whole epilogue in its one launch, as a fused graph of cuDNN
// does, or (false) leaves it to kernels of ours, as an unfused plan does and as is so at first.
void fuse_epilogues(bool fuse);

}  // namespace ringfort::emulation
