#include <algorithm>
#include <vector>

#include "kernels/exec_cuda.h"
#include "kernels/recording.h"

namespace ringfort {

class Recording {
 public:
  explicit Recording(cudaGraph_t graph) : kernels_(count_kernels(graph)) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "cudaGraphInstantiate");
  }
  ~Recording() { cudaGraphExecDestroy(executable_); }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  cudaGraphExec_t executable() const { return executable_; }
  int64_t kernels() const { return kernels_; }

 private:
  static int64_t count_kernels(cudaGraph_t graph) {
    size_t count = 0;
    check(cudaGraphGetNodes(graph, nullptr, &count), "cudaGraphGetNodes");
    std::vector<cudaGraphNode_t> nodes(count);
    check(cudaGraphGetNodes(graph, nodes.data(), &count), "cudaGraphGetNodes");
    return std::count_if(nodes.begin(), nodes.end(), [](cudaGraphNode_t node) {
      cudaGraphNodeType type{};
      check(cudaGraphNodeGetType(node, &type), "cudaGraphNodeGetType");
      return type == cudaGraphNodeTypeKernel;
    });
  }

  cudaGraphExec_t executable_ = nullptr;
  int64_t kernels_;
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

int64_t kernel_count(const Recording& recording) { return recording.kernels(); }

void replay(Exec& exec, Recording& recording) {
  check(cudaGraphLaunch(recording.executable(), exec.cuda().stream()), "cudaGraphLaunch");
}

}  // namespace ringfort
