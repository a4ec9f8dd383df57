// Markers are events.
#include "kernels/exec_cuda.h"
#include "kernels/marker.h"

namespace ringfort {

class CudaMarker {
 public:
  CudaMarker() {
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  ~CudaMarker() { cudaEventDestroy(event_); }
  CudaMarker(const CudaMarker&) = delete;
  CudaMarker& operator=(const CudaMarker&) = delete;
  cudaEvent_t event() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

void CudaMarkerDeleter::operator()(CudaMarker* marker) const { delete marker; }

namespace cuda {

CudaMarkerHandle make_marker() { return CudaMarkerHandle(new CudaMarker); }

void set(CudaMarker& marker, Exec& exec) {
  check(cudaEventRecord(marker.event(), exec.cuda().stream()), "cudaEventRecord");
}

void wait(CudaMarker& marker) {
  check(cudaEventSynchronize(marker.event()), "cudaEventSynchronize");
}

}  // namespace cuda
}  // namespace ringfort
