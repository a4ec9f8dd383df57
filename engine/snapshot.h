// Snapshot: the state of a training at one moment, to go back to.
#pragma once

#include "engine/optimizer.h"

namespace ringfort {

class Snapshot {
 public:
  // Copies weights, running statistics and the optimizer's state into memory of the pool, on the
  // device.
  Snapshot(Exec& exec, Pool& pool, const ParamStore& params, const Optimizer& optimizer);

  // The copies, of which a state file can be made, by the names below `prefix`.
  std::vector<NamedView> state(const std::string& prefix) const;

  // Writes them back, into the same store and optimizer: the training goes on as it did then. The
  // compute copy follows.
  void restore(Exec& exec, ParamStore& params, const Optimizer& optimizer) const;

 private:
  std::vector<std::pair<std::string, Tensor>> copies_;
};

// What a training changes from step to step: weights, running statistics, the optimizer's state.
std::vector<NamedView> training_state(const ParamStore& params, const Optimizer& optimizer);

}  // namespace ringfort
