// Without CUDA nothing needs to be uploaded.
#include "kernels/upload.h"

namespace ringfort {

class CudaUploads {};

void CudaUploadsDeleter::operator()(CudaUploads* uploads) const { delete uploads; }

namespace cuda {

CudaUploadsHandle make_uploads(Exec&, int64_t) {
  fail("upload: this build of Ringfort has no CUDA backend; use --device cpu");
}
const void* upload(CudaUploads&, const void* from, int64_t) { return from; }

}  // namespace cuda
}  // namespace ringfort
