// Exec and device memory on CUDA.
#include "kernels/exec_cuda.h"

#include "kernels/device_memory.h"

namespace ringfort {
void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  const std::string sentence =
      fmt::format("{}: {} ({})", call, cudaGetErrorString(status), cudaGetErrorName(status));
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(sentence);
  throw Error(sentence);
}

CudaContext::CudaContext(int device_index) {
  check(cudaSetDevice(device_index), "cudaSetDevice");
  // Beside the legacy default stream, whose implicit synchronisation no one here wants.
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

CudaContext::~CudaContext() {
  cudaStreamSynchronize(stream_);
  libraries_.reset();
  cudaStreamDestroy(stream_);
}

void CudaContextDeleter::operator()(CudaContext* context) const { delete context; }

CudaContextHandle make_cuda_context(int device_index) {
  const int count = cuda_device_count();
  require(count > 0, "--device cuda: no CUDA device is here; use --device cpu");
  require(device_index >= 0 && device_index < count,
          "--device cuda:{}: there are {} CUDA devices, numbered from 0", device_index, count);
  return CudaContextHandle(new CudaContext(device_index));
}

int cuda_device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

std::string cuda_device_name(int index) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return properties.name;
}

void synchronize(Exec& exec) {
  if (exec.on_cuda()) check(cudaStreamSynchronize(exec.cuda().stream()), "cudaStreamSynchronize");
}

namespace cuda {

void* allocate(int64_t bytes, const char* purpose) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, static_cast<size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it would show at the next launch
    throw OutOfMemory(fmt::format("out of GPU memory: {} MiB of {}", bytes >> 20, purpose));
  }
  check(status, "cudaMalloc");
  return memory;
}

void release(void* memory) { cudaFree(memory); }

int64_t free_memory() {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(free);
}

static cudaMemcpyKind kind_of(CopyDirection direction) {
  return direction == CopyDirection::kToDevice ? cudaMemcpyHostToDevice
         : direction == CopyDirection::kToHost ? cudaMemcpyDeviceToHost
                                               : cudaMemcpyDeviceToDevice;
}

void copy(Exec& exec, void* to, const void* from, int64_t bytes, CopyDirection direction) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind_of(direction),
                        exec.cuda().stream()),
        "cudaMemcpyAsync");
}

void copy_now(void* to, const void* from, int64_t bytes, CopyDirection direction) {
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  check(cudaMemcpy(to, from, static_cast<size_t>(bytes), kind_of(direction)), "cudaMemcpy");
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

void clear_now(void* to, int64_t bytes) {
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  check(cudaMemset(to, 0, static_cast<size_t>(bytes)), "cudaMemset");
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

void clear(Exec& exec, void* to, int64_t bytes) {
  check(cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), exec.cuda().stream()),
        "cudaMemsetAsync");
}

namespace {

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(Exec& exec) {
    check(cudaEventRecord(event_, exec.cuda().stream()), "cudaEventRecord");
  }
  double seconds_since(const Event& earlier) const {
    check(cudaEventSynchronize(event_), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, earlier.event_, event_), "cudaEventElapsedTime");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

double seconds_per_call(Exec& exec, int calls, const std::function<void()>& call) {
  Event start, end;
  call();
  start.record(exec);
  for (int i = 0; i < calls; ++i) call();
  end.record(exec);
  return end.seconds_since(start) / calls;
}

}  // namespace cuda
}  // namespace ringfort
