// Graph: a piece of work that is run many times on the same addresses and shapes: warm up, capture,
// replay. On the CPU a replay calls the function: the same path, tested without a GPU. A changed
// shape is an error that names both shapes, never a silent re-capture.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "engine/memory.h"

namespace ringfort {

class Graph {
 public:
  // warm_up: runs before the capture, in which libraries choose plans and the pool fills.
  Graph(std::string name, std::function<void()> work, int warm_up = 1);

  // shape: of the work's input, the same at every call.
  void run(const Shape& shape);

  enum class State { kWarmUp, kCaptured };
  State state() const { return runs_ < warm_up_ ? State::kWarmUp : State::kCaptured; }
  int64_t replays() const { return replays_; }

 private:
  std::string name_;
  std::function<void()> work_;
  int warm_up_;
  int runs_ = 0;
  int64_t replays_ = 0;
  std::optional<Shape> shape_;
};

}  // namespace ringfort
