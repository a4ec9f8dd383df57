#include "kernels/marker.h"

namespace ringfort {

Marker::Marker(Exec& exec) {
  if (exec.on_cuda()) cuda_ = cuda::make_marker();
}

void Marker::set(Exec& exec) {
  if (cuda_) cuda::set(*cuda_, exec);
}

void Marker::wait() const {
  if (cuda_) cuda::wait(*cuda_);
}

}  // namespace ringfort
