// What an Exec holds for a CUDA device: the stream that all of its work is queued on, in order. And
// `check`, through which every call of the CUDA runtime goes. Only CUDA's own files include this.
#pragma once

#include <cuda_runtime.h>

#include "kernels/exec.h"

namespace ringfort {

// Errors: the call that failed, CUDA's reason and, where it is known, what to do.
void check(cudaError_t status, const char* call);

class CudaContext {
 public:
  explicit CudaContext(int device_index);
  ~CudaContext();
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  cudaStream_t stream() const { return stream_; }
  // kernels/libraries_cuda.h's handles, made when they are first needed.
  std::shared_ptr<void>& libraries() { return libraries_; }

 private:
  cudaStream_t stream_ = nullptr;
  std::shared_ptr<void> libraries_;
};

}  // namespace ringfort
