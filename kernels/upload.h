// Uploader: bytes from the host to the device while the device works on what came before: two
// page-locked buffers in turn, and a stream of their own beside the Exec's. On the CPU nothing is
// copied.
#pragma once

#include "kernels/device_memory.h"

namespace ringfort {

class CudaUploads;  // upload_cuda.cu
struct CudaUploadsDeleter {
  void operator()(CudaUploads* uploads) const;
};
using CudaUploadsHandle = std::unique_ptr<CudaUploads, CudaUploadsDeleter>;

class Uploader {
 public:
  // most_bytes: of one upload.
  Uploader(Exec& exec, int64_t most_bytes);

  // Where the bytes are for work that is queued on the Exec from now on, until the next upload.
  // `from` may be written over at once on CUDA, and after that work on the CPU.
  const void* upload(const void* from, int64_t bytes);

  // Of device memory: the two buffers.
  int64_t bytes_reserved() const { return on_device_ ? 2 * most_bytes_ : 0; }

 private:
  int64_t most_bytes_;
  bool on_device_;
  CudaUploadsHandle cuda_;  // none on the CPU
};

namespace cuda {
CudaUploadsHandle make_uploads(Exec& exec, int64_t most_bytes);
const void* upload(CudaUploads& uploads, const void* from, int64_t bytes);
}  // namespace cuda

}  // namespace ringfort
