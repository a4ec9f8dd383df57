#include "kernels/libraries_cuda.h"

#include "kernels/graph_cudnn.h"

namespace ringfort {

GpuLibraries::GpuLibraries(cudaStream_t stream) : stream_(stream) {
  check(cudnnCreate(&cudnn_), "cudnnCreate");
  check(cudnnSetStream(cudnn_, stream), "cudnnSetStream");
  require(cublasLtCreate(&cublas_) == CUBLAS_STATUS_SUCCESS, "cublasLtCreate failed");
}

GpuLibraries::~GpuLibraries() {
  caches_.clear();  // plans were made with the handles
  cudnnDestroy(cudnn_);
  cublasLtDestroy(cublas_);
}

std::string cuda_library_version() {
  const size_t version = cudnnGetVersion();  // 91900: 9.19.0
  return fmt::format("cuDNN {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

GpuLibraries& libraries(Exec& exec) {
  CudaContext& context = exec.cuda();
  if (!context.libraries()) context.libraries() = std::make_shared<GpuLibraries>(context.stream());
  return *static_cast<GpuLibraries*>(context.libraries().get());
}

}  // namespace ringfort
