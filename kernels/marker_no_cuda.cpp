// Without CUDA there is nothing to wait for.
#include "kernels/error.h"
#include "kernels/marker.h"

namespace ringfort {

class CudaMarker {};

void CudaMarkerDeleter::operator()(CudaMarker* marker) const { delete marker; }

namespace cuda {

CudaMarkerHandle make_marker() {
  fail("marker: this build of Ringfort has no CUDA backend; use --device cpu");
}
void set(CudaMarker&, Exec&) {}
void wait(CudaMarker&) {}

}  // namespace cuda
}  // namespace ringfort
