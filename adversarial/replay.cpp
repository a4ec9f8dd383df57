// A step of training run again under watch: where did a number stop being finite?
#include "adversarial/replay.h"

#include <cmath>
#include <numeric>

#include "adversarial/trainer.h"
#include "engine/transfer.h"

namespace ringfort {
namespace {

// The elements as they lie in memory, on the host.
std::vector<double> elements(Exec& exec, const View& view) {
  std::vector<std::byte> bytes(static_cast<size_t>(view.bytes()));
  to_host(exec, bytes.data(), view);
  View host = view;
  host.data = bytes.data();
  std::vector<double> values(static_cast<size_t>(view.count()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = detail::load_element<double>(host, static_cast<int64_t>(i));
  return values;
}

int64_t not_finite(const std::vector<double>& values) {
  return std::count_if(values.begin(), values.end(), [](double x) { return !std::isfinite(x); });
}

}  // namespace

double StepReplay::mean_loss() const {
  return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
}

void Trainer::require_step(int64_t step) const {
  require(step >= 1 && step <= total_steps_,
          "replay: there is no step {}; training has steps 1 to {}", step, total_steps_);
}

StepReplay Trainer::replay(int64_t step, const std::function<void(int64_t)>& progress) {
  require_step(step);
  require(result_.steps < step, "replay: the state is from after step {}, which is beyond step {}",
          result_.steps, step);
  take_init();
  TrainingObserver nobody;
  observer_ = &nobody;
  started_ = epoch_started_ = record_started_ = now();
  const int64_t per_epoch = steps_per_epoch();
  for (bool first = true; result_.steps < step - 1; first = false) {
    const auto epoch = static_cast<uint32_t>(result_.steps / per_epoch);
    if (first || result_.steps % per_epoch == 0)
      feed_->start_epoch(epoch, result_.steps % per_epoch * recipe_.micro_batches);
    run_step(epoch);
    require(after_step(), "replay: training stops after step {}, before step {}", result_.steps,
            step);
    progress(result_.steps);
  }
  const int64_t epoch = (step - 1) / per_epoch;
  feed_->start_epoch(static_cast<uint32_t>(epoch), (step - 1) % per_epoch * recipe_.micro_batches);
  return take_apart(static_cast<uint32_t>(epoch));
}

StepReplay Trainer::take_apart(uint32_t epoch) {
  const StepOptions options = schedule_.at(result_.steps);
  StepReplay replay;
  replay.step = result_.steps + 1;
  replay.epoch = epoch + int64_t{1};
  replay.lr = options.update.lr;
  const Watch watch = [&](const std::string& what, const View& value) {
    if (replay.first) return;
    const int64_t count = not_finite(elements(exec_, value));
    if (count > 0) replay.first = {what, value.shape, value.dtype, count};
  };
  for (int part = 0; part < recipe_.micro_batches; ++part) {
    const AttackInput input = next_input(epoch);
    const OuterResult result = step_->watch(input, options, watch);
    const auto samples = to_vector<int64_t>(exec_, input.samples);
    replay.samples.insert(replay.samples.end(), samples.begin(), samples.end());
    const std::vector<double> losses = elements(exec_, result.loss);
    replay.losses.insert(replay.losses.end(), losses.begin(), losses.end());
    watch("the loss", result.loss);
  }
  const GradientSize gradient = step_->optimizer().measure_gradient(exec_);
  replay.gradient_norm = gradient.norm;
  replay.counts = gradient.counts && !replay.first;
  return replay;
}

}  // namespace ringfort
