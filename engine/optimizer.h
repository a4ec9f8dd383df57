// Optimizers: vector operations on the flat buffers of a ParamStore. State lives in flat buffers of
// the same layout.
#pragma once

#include "engine/params.h"
#include "engine/state_file.h"

namespace ringfort {

struct SgdOptions {
  double momentum = 0.9;
  bool nesterov = false;
  double weight_decay = 5e-4;
  bool decay_all = true;  // also norm parameters and biases; false: filters and matrices only
  double clip_grad = 0;   // the longest the whole gradient may be, else it is scaled; 0: any length
};

// SGD with momentum as PyTorch defines it.
class Sgd {
 public:
  Sgd(ParamStore& params, SgdOptions options);

  // One pass over the buffers: weights, momentum and, where there is one, the compute copy.
  void step(Exec& exec, double lr);

  // The same in two parts, for a step that is recorded: the learning rate is written to the device,
  // and the update reads it there.
  void set_lr(Exec& exec, double lr);
  void step(Exec& exec);

  View momentum_buffer() const { return momentum_; }
  // All that it remembers between steps.
  std::vector<NamedView> state() const { return {{"optimizer.momentum", momentum_}}; }
  int64_t bytes_reserved() const { return pool_.bytes_reserved(); }

 private:
  ParamStore& params_;
  SgdOptions options_;
  Pool pool_;
  Tensor momentum_;
  Tensor lr_;      // one float32
  Tensor decays_;  // kBit, per element; none where all decay
  // For clipping: squared norms of the segments, float64, and the factor of the gradient, float32.
  Tensor squares_, scale_;
};

}  // namespace ringfort
