// Uploads on CUDA. Two streams and the host meet at two events per buffer; an upload waits for
// nothing that is younger than the work before the last upload.
#include <cstring>

#include "kernels/exec_cuda.h"
#include "kernels/upload.h"

namespace ringfort {
namespace {

cudaEvent_t make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return event;
}

}  // namespace

class CudaUploads {
 public:
  CudaUploads(Exec& exec, int64_t most_bytes) : work_(exec.cuda().stream()) {
    check(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    for (Buffer& buffer : buffers_) {
      check(cudaMallocHost(&buffer.host, static_cast<size_t>(most_bytes)), "cudaMallocHost");
      buffer.device = allocate_on(exec.device(), most_bytes, "a batch's pixels");
      buffer.copied = make_event();
      buffer.read = make_event();
    }
  }
  ~CudaUploads() {
    cudaStreamSynchronize(copies_);
    cudaStreamSynchronize(work_);
    for (Buffer& buffer : buffers_) {
      cudaFreeHost(buffer.host);
      cudaEventDestroy(buffer.copied);
      cudaEventDestroy(buffer.read);
    }
    cudaStreamDestroy(copies_);
  }
  CudaUploads(const CudaUploads&) = delete;
  CudaUploads& operator=(const CudaUploads&) = delete;

  const void* upload(const void* from, int64_t bytes) {
    Buffer& before = buffers_[static_cast<size_t>(next_)];
    next_ = 1 - next_;
    Buffer& buffer = buffers_[static_cast<size_t>(next_)];
    // All that reads the last upload is queued by now.
    check(cudaEventRecord(before.read, work_), "cudaEventRecord");
    // The host must not write over what is still being copied, nor the copy over what is being
    // read.
    check(cudaEventSynchronize(buffer.copied), "cudaEventSynchronize");
    std::memcpy(buffer.host, from, static_cast<size_t>(bytes));
    check(cudaStreamWaitEvent(copies_, buffer.read, 0), "cudaStreamWaitEvent");
    check(cudaMemcpyAsync(buffer.device.get(), buffer.host, static_cast<size_t>(bytes),
                          cudaMemcpyHostToDevice, copies_),
          "cudaMemcpyAsync");
    check(cudaEventRecord(buffer.copied, copies_), "cudaEventRecord");
    check(cudaStreamWaitEvent(work_, buffer.copied, 0), "cudaStreamWaitEvent");
    return buffer.device.get();
  }

 private:
  struct Buffer {
    void* host = nullptr;  // page-locked
    DeviceMemory device;
    cudaEvent_t copied = nullptr, read = nullptr;
  };

  cudaStream_t work_, copies_ = nullptr;
  Buffer buffers_[2];
  int next_ = 0;
};

void CudaUploadsDeleter::operator()(CudaUploads* uploads) const { delete uploads; }

namespace cuda {

CudaUploadsHandle make_uploads(Exec& exec, int64_t most_bytes) {
  return CudaUploadsHandle(new CudaUploads(exec, most_bytes));
}
const void* upload(CudaUploads& uploads, const void* from, int64_t bytes) {
  return uploads.upload(from, bytes);
}

}  // namespace cuda
}  // namespace ringfort
