#include "engine/pass.h"

#include "kernels/activation.h"
#include "kernels/device_memory.h"

namespace ringfort {

Pass::Pass(Exec& exec_in, Pool& pool_in, ParamStore& params_in, PassOptions options_in,
           OnReady on_ready)
    : exec(exec_in),
      pool(pool_in),
      params(params_in),
      options(options_in),
      on_ready_(std::move(on_ready)),
      uses_(params_in.segments().size()) {
  if (options.watch != nullptr)
    tape.on_record = [this](const Tensor& value) {
      (*options.watch)(last_used_.empty() ? "the first value" : "the value after " + last_used_,
                       value);
    };
}

Var Pass::input(Tensor x) {
  return wants_input_gradient() ? tape.leaf(std::move(x)) : Var{std::move(x), -1};
}

bool Pass::uses(ParamId id) {
  if (options.watch != nullptr) last_used_ = params.segment(id).name;
  if (!wants_parameter_gradients()) return false;
  ++uses_.at(static_cast<size_t>(id)).pending;
  return true;
}

Tensor Pass::writable(Tensor tensor) {
  if (tensor.is_sole_owner()) return tensor;
  Tensor own = empty_like(tensor);
  convert(exec, own, tensor);
  return own;
}

Var Pass::gated(const Var& x, Tensor y, Gate gate) {
  if (!x.gate) return {std::move(y), x.node, std::move(gate)};
  // Two gates do not make one: a node that only hands on stands between them.
  Var between = tape.record(
      std::move(y), [this, to_x = GradientTarget(x)](Tensor dy) { give(to_x, std::move(dy)); });
  between.gate = std::move(gate);
  return between;
}

float Pass::beta_for(ParamId id) const {
  return options.accumulate || uses_.at(static_cast<size_t>(id)).written ? 1.0f : 0.0f;
}

void Pass::contribution_done(ParamId id) {
  Use& use = uses_.at(static_cast<size_t>(id));
  require(use.pending > 0, "Pass: '{}' got a gradient that no op has announced by uses()",
          params.segment(id).name);
  use.written = true;
  --use.pending;
  ++gradients_written_;
  announce_ready();
}

// Announces the completed prefix of the memory order, so that the order is the same on every rank
// and run.
void Pass::announce_ready() {
  for (; announced_ < uses_.size(); ++announced_) {
    const auto id = static_cast<ParamId>(uses_.size() - 1 - announced_);
    const Use& use = uses_[static_cast<size_t>(id)];
    if (use.pending > 0) return;
    if (!use.written) {
      if (!backward_ran_) return;  // it may not have been reached yet
      const View gradient = params.gradient(id);
      if (!options.accumulate) clear(exec, gradient);
    }
    if (on_ready_) on_ready_(id);
  }
}

void Pass::backward(const Var& y, Tensor dy) {
  require(!backward_ran_, "Pass: backward has run already; a tape is used once");
  if (y.needs_gradient()) {
    give(y, std::move(dy));
    tape.backward();
  }
  backward_ran_ = true;
  if (wants_parameter_gradients()) {
    for (Use& use : uses_) use.pending = 0;  // uses on branches that no gradient has reached
    announce_ready();
  }
}

}  // namespace ringfort
