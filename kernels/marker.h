// Marker: a place in the work of an Exec that another thread can wait for. On the CPU work is done
// when it returns, so there is nothing to wait for.
#pragma once

#include <memory>

#include "kernels/exec.h"

namespace ringfort {

class CudaMarker;  // marker_cuda.cu
struct CudaMarkerDeleter {
  void operator()(CudaMarker* marker) const;
};
using CudaMarkerHandle = std::unique_ptr<CudaMarker, CudaMarkerDeleter>;

class Marker {
 public:
  explicit Marker(Exec& exec);
  void set(Exec& exec);  // behind all work queued on it so far
  void wait() const;     // until that is done

 private:
  CudaMarkerHandle cuda_;  // none on the CPU
};

namespace cuda {
CudaMarkerHandle make_marker();
void set(CudaMarker& marker, Exec& exec);
void wait(CudaMarker& marker);
}  // namespace cuda

}  // namespace ringfort
