#include "engine/graph.h"

#include <cstdio>

namespace ringfort {

Graph::Graph(Exec& exec, std::string name, std::function<void()> work, GraphOptions options)
    : exec_(exec), name_(std::move(name)), work_(std::move(work)), options_(std::move(options)) {
  require(static_cast<bool>(work_), "Graph '{}': there is no work to run", name_);
  require(options_.warm_up >= 1, "Graph '{}': at least one warm-up run is needed, got {}", name_,
          options_.warm_up);
}

void Graph::run(const Shape& shape) {
  require(!shape_ || *shape_ == shape,
          "Graph '{}': made for {} and called with {}; make another graph", name_,
          to_string(shape_.value_or(shape)), to_string(shape));
  shape_ = shape;
  if (runs_ < options_.warm_up) {
    ++runs_;
    work_();
    return;
  }
  ++replays_;
  if (exec_.on_cuda() && !recording_ && !refused_) capture();
  if (recording_)
    replay(exec_, *recording_);
  else
    work_();
}

void Graph::capture() {
  options_.before_capture();
  if (options_.pool != nullptr) options_.pool->keep_blocks();
  std::string why;
  recording_ = record(exec_, work_, why);
  refused_ = recording_ == nullptr;
  if (!refused_) return;
  // The host has run the work, so caches count as filled; the kernels that were to fill them never
  // ran.
  options_.before_capture();
  std::fprintf(stderr, "ringfort: the graph '%s' could not be captured and runs without: %s\n",
               name_.c_str(), why.c_str());
}

}  // namespace ringfort
