// Snapshot: the state of a training at one moment, to go back to.
#pragma once

#include "engine/optimizer.h"

namespace ringfort {

class Snapshot {
 public:
  // Copies weights, running statistics and momentum into memory of the pool, on the device.
  Snapshot(Exec& exec, Pool& pool, const ParamStore& params, const Sgd& optimizer);

  // The copies, of which a state file can be made, by the names below `prefix`.
  std::vector<NamedView> state(const std::string& prefix) const;

  // Writes them back, into the same store and optimizer: the training goes on as it did then. The
  // compute copy follows.
  void restore(Exec& exec, ParamStore& params, const Sgd& optimizer) const;

 private:
  Tensor master_, statistics_, momentum_;
};

}  // namespace ringfort
