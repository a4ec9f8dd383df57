// cuDNN's and cuBLASLt's handles of one Exec, on its stream, and what is cached per shape. Only the
// files that call these libraries include this.
#pragma once

#include <cublasLt.h>
#include <cudnn.h>

#include <memory>
#include <typeindex>
#include <unordered_map>

#include "kernels/exec_cuda.h"

namespace ringfort {

class GpuLibraries {
 public:
  explicit GpuLibraries(cudaStream_t stream);
  ~GpuLibraries();
  GpuLibraries(const GpuLibraries&) = delete;
  GpuLibraries& operator=(const GpuLibraries&) = delete;

  cudnnHandle_t cudnn() const { return cudnn_; }
  cublasLtHandle_t cublas() const { return cublas_; }
  cudaStream_t stream() const { return stream_; }

  // What one file remembers between calls, made when it is first asked for.
  template <class T>
  T& cache() {
    std::shared_ptr<void>& one = caches_[typeid(T)];
    if (!one) one = std::make_shared<T>();
    return *static_cast<T*>(one.get());
  }

 private:
  cudaStream_t stream_;
  cudnnHandle_t cudnn_ = nullptr;
  cublasLtHandle_t cublas_ = nullptr;
  std::unordered_map<std::type_index, std::shared_ptr<void>> caches_;
};

GpuLibraries& libraries(Exec& exec);

}  // namespace ringfort
