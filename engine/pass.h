// Pass: everything in which attack, training and evaluation differ, passed and never global: which
// gradients are asked for, which statistics batch norm uses, the dtype, where memory comes from. A
// pass is used for one forward and at most one backward.
#pragma once

#include <functional>
#include <vector>

#include "engine/params.h"
#include "engine/tape.h"
#include "kernels/norm_joint.h"
#include "kernels/philox.h"

namespace ringfort {

enum class Wrt { kNothing, kInput, kParams, kBoth };  // which gradients this pass is asked for

enum class BnMode {
  kRunning,         // running statistics; a per-channel scale; nothing saved, nothing reduced
  kBatch,           // batch statistics, running ones left alone
  kBatchAndUpdate,  // batch statistics move the running ones: the training pass
};

// What the dropout of a training pass draws its numbers from; nothing is kept of them.
struct DropoutDraw {
  RandomKey key;   // seed and epoch, of Purpose::kDropout
  Tensor samples;  // (N) int64, data-set indices
};

// Told every value of a pass as it is computed, and every parameter's gradient: what it is, and it.
// For whoever looks for the cause of something; a pass that is recorded has none.
using Watch = std::function<void(const std::string& what, const View& value)>;

struct PassOptions {
  Wrt wrt = Wrt::kNothing;
  BnMode bn = BnMode::kRunning;
  Dtype dtype = Dtype::kFloat32;  // of activations and their gradients
  // Add to the flat gradient instead of overwriting it: a second backward before one update.
  bool accumulate = false;
  // Share of a batch in the running statistics that kBatchAndUpdate moves; 0: each norm's own.
  float statistics_share = 0;
  const Watch* watch = nullptr;          // outlives the pass
  const DropoutDraw* dropout = nullptr;  // none, as in every attack and evaluation: nothing drops
  Norms norms = Norms::kMain;            // of two sets, where the model has them
  // Batch statistics, and their part in gradients, are those of all ranks together; outlives the
  // pass. Without it they are each rank's own, as in every attack; under kRunning it is not called.
  const SumOverRanks* sum_over_ranks = nullptr;
};

class Pass {
 public:
  // Called once per parameter when its gradient is complete, in the order of
  // ParamStore::in_memory_order().
  using OnReady = std::function<void(ParamId)>;

  Pass(Exec& exec_in, Pool& pool_in, ParamStore& params_in, PassOptions options_in = {},
       OnReady on_ready = {});

  Pass(const Pass&) = delete;  // VJPs hold its address
  Pass& operator=(const Pass&) = delete;

  Exec& exec;
  Pool& pool;
  ParamStore& params;
  const PassOptions options;
  Tape tape;

  bool wants_input_gradient() const {
    return options.wrt == Wrt::kInput || options.wrt == Wrt::kBoth;
  }
  bool wants_parameter_gradients() const {
    return options.wrt == Wrt::kParams || options.wrt == Wrt::kBoth;
  }

  // The network's input; a leaf where the input gradient is asked for, else a constant. input() and
  // uses() alone consult options.wrt; ops ask whether their inputs need gradients and whether their
  // parameters are used for one.
  Var input(Tensor x);
  // Counts a use of the parameter while recording and says whether its gradient is wanted.
  bool uses(ParamId id);
  // For VJPs: calls write(gradient slice, beta) once per counted use; after the last, on_ready
  // fires.
  template <class Write>
  void write_gradient(ParamId id, Write&& write) {
    write(params.gradient(id), beta_for(id));
    if (options.watch != nullptr)
      (*options.watch)("the gradient of " + params.segment(id).name, params.gradient(id));
    contribution_done(id);
  }

  Tensor empty(const Shape& shape, Dtype dtype, Layout layout = Layout::kChannelsLast) {
    return Tensor(pool, shape, dtype, layout);
  }
  Tensor empty_like(const Tensor& other) {
    return empty(other.shape(), other.dtype(), other.layout());
  }
  // The tensor itself where nobody shares it, else a copy.
  Tensor writable(Tensor tensor);

  // The value y = relu?(scale x + shift) of a Var, of x's shape and dtype, without a node of its
  // own. REQUIRES: x needs a gradient.
  Var gated(const Var& x, Tensor y, Gate gate);

  // For VJPs whose kernel can write through the gate.
  Destination destination(const GradientTarget& target) {
    return tape.destination(exec, pool, target);
  }
  // For all others: calls write(dx, beta) once.
  template <class Write>
  void write_input_gradient(const GradientTarget& target, Write&& write) {
    if (!target.gate) {
      const Destination to = destination(target);
      write(to.dx, to.beta);
      return;
    }
    Tensor dx = empty(target.shape, target.dtype, target.layout);
    write(dx, 0.0f);
    give(target, std::move(dx));
  }
  void give(const GradientTarget& target, Tensor dx) {
    tape.give(exec, pool, target, std::move(dx));
  }

  // Starts from dy as the gradient of y and runs the tape. Parameters that the pass did not reach
  // get zero gradients.
  void backward(const Var& y, Tensor dy);

  // Parameter gradients written so far; stays 0 in every attack.
  int64_t gradients_written() const { return gradients_written_; }

 private:
  struct Use {
    int pending = 0;
    bool written = false;
  };
  float beta_for(ParamId id) const;
  void contribution_done(ParamId id);
  void announce_ready();

  OnReady on_ready_;
  std::vector<Use> uses_;
  std::string last_used_;  // name of the parameter; kept where there is a watch
  size_t announced_ = 0;   // parameters already announced, in memory order
  bool backward_ran_ = false;
  int64_t gradients_written_ = 0;
};

}  // namespace ringfort
