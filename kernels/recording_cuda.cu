#include "kernels/exec_cuda.h"
#include "kernels/recording.h"

namespace ringfort {

class Recording {
 public:
  explicit Recording(cudaGraph_t graph) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "cudaGraphInstantiate");
  }
  ~Recording() { cudaGraphExecDestroy(executable_); }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  cudaGraphExec_t executable() const { return executable_; }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

void RecordingDeleter::operator()(Recording* recording) const { delete recording; }

RecordingHandle record(Exec& exec, const std::function<void()>& work, std::string& why) {
  const cudaStream_t stream = exec.cuda().stream();
  cudaGraph_t graph = nullptr;
  try {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
    work();
    check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    return RecordingHandle(new Recording(graph));
  } catch (const Error& error) {
    why = error.what();
    if (graph == nullptr && cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph != nullptr)
      cudaGraphDestroy(graph);
    cudaGetLastError();  // what was refused must not show at the next launch
    return nullptr;
  }
}

void replay(Exec& exec, Recording& recording) {
  check(cudaGraphLaunch(recording.executable(), exec.cuda().stream()), "cudaGraphLaunch");
}

}  // namespace ringfort
