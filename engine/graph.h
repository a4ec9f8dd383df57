// Graph: a piece of work that is run many times on the same addresses and shapes: warm up, capture,
// replay. On CUDA a replay is one call that queues all of the work; on the CPU it calls the
// function: the same path, tested without a GPU. A changed shape is an error that names both
// shapes, never a silent re-capture.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "engine/memory.h"
#include "kernels/recording.h"

namespace ringfort {

struct GraphOptions {
  int warm_up = 1;  // runs before the capture, in which libraries choose plans and the pool fills
  // Called before the capture: what the work would find done by an earlier run, and must record
  // itself, is to be forgotten here.
  std::function<void()> before_capture = [] {};
  // Where the work takes its tensors from; what is recorded keeps its addresses. nullptr: nowhere.
  Pool* pool = nullptr;
};

class Graph {
 public:
  // work: queues on exec's stream only, allocates from a pool that nobody else takes from, and
  // reads on the device whatever changes between runs.
  Graph(Exec& exec, std::string name, std::function<void()> work, GraphOptions options = {});

  // shape: of the work's input, the same at every call.
  void run(const Shape& shape);

  enum class State { kWarmUp, kCaptured };
  State state() const { return runs_ < options_.warm_up ? State::kWarmUp : State::kCaptured; }
  int64_t replays() const { return replays_; }
  // Whether replays run a recording. False on the CPU, and where the capture failed, which is said
  // once on stderr.
  bool recorded() const { return recording_ != nullptr; }
  // Kernels that a replay launches; 0 where nothing is recorded.
  int64_t kernels() const { return recording_ ? kernel_count(*recording_) : 0; }

 private:
  void capture();

  Exec& exec_;
  std::string name_;
  std::function<void()> work_;
  GraphOptions options_;
  RecordingHandle recording_;
  bool refused_ = false;
  int runs_ = 0;
  int64_t replays_ = 0;
  std::optional<Shape> shape_;
};

}  // namespace ringfort
