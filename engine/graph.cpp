#include "engine/graph.h"

namespace ringfort {

Graph::Graph(std::string name, std::function<void()> work, int warm_up)
    : name_(std::move(name)), work_(std::move(work)), warm_up_(warm_up) {
  require(static_cast<bool>(work_), "Graph '{}': there is no work to run", name_);
  require(warm_up_ >= 1, "Graph '{}': at least one warm-up run is needed, got {}", name_, warm_up_);
}

void Graph::run(const Shape& shape) {
  require(!shape_ || *shape_ == shape,
          "Graph '{}': made for {} and called with {}; make another graph", name_,
          to_string(shape_.value_or(shape)), to_string(shape));
  shape_ = shape;
  if (runs_ < warm_up_)
    ++runs_;
  else
    ++replays_;
  work_();
}

}  // namespace ringfort
