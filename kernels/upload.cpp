#include "kernels/upload.h"

namespace ringfort {

Uploader::Uploader(Exec& exec, int64_t most_bytes)
    : most_bytes_(most_bytes), on_device_(exec.device().kind == DeviceKind::kCuda) {
  if (exec.on_cuda()) cuda_ = cuda::make_uploads(exec, most_bytes);
}

const void* Uploader::upload(const void* from, int64_t bytes) {
  require(bytes >= 0 && bytes <= most_bytes_, "upload: {} bytes where at most {} fit", bytes,
          most_bytes_);
  return cuda_ ? cuda::upload(*cuda_, from, bytes) : from;
}

}  // namespace ringfort
