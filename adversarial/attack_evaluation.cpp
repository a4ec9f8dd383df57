// The attack of an evaluation: a full batch of slots, each with a sample, a restart and a step of
// its own.
#include <algorithm>

#include "adversarial/attack.h"
#include "adversarial/attack_steps.h"
#include "engine/transfer.h"

namespace ringfort {
namespace {

void copy_row(Exec& exec, const Tensor& to, int64_t to_row, const Tensor& from, int64_t from_row) {
  copy_view(exec, to.view().samples(to_row, 1), from.view().samples(from_row, 1));
}

// The best found per sample over all steps and restarts: a success beats any failure, a larger loss
// a smaller one.
struct Best {
  Tensor x_adv;
  std::vector<float> loss;
  std::vector<uint8_t> fooled;

  void offer(Exec& exec, int64_t sample, float sample_loss, bool success, const Tensor& iterates,
             int64_t slot) {
    const auto at = static_cast<size_t>(sample);
    if (fooled[at] && !success) return;
    if (fooled[at] == static_cast<uint8_t>(success) && sample_loss <= loss[at]) return;
    fooled[at] = success;
    loss[at] = sample_loss;
    copy_row(exec, x_adv, sample, iterates, slot);
  }
};

class SlotAttack {
 public:
  // labels: the input's, on the host.
  SlotAttack(Exec& exec, Pool& pool, Model& model, const AttackInput& input,
             const std::vector<int32_t>& labels, const AttackOptions& options, Best& best,
             std::vector<int64_t> waiting, int64_t batch_size)
      : exec_(exec),
        pool_(pool),
        model_(model),
        input_(input),
        input_labels_(input.labels.reshaped(matrix_shape(input.x_nat.shape().n, 1))),
        all_labels_(labels),
        options_(options),
        best_(best),
        waiting_(std::move(waiting)) {
    const auto count = std::min(batch_size, static_cast<int64_t>(waiting_.size()));
    Shape shape = input.x_nat.shape();
    shape.n = count;
    x_nat_ = Tensor(pool, shape, Dtype::kFloat32);
    x_adv_ = Tensor(pool, shape, Dtype::kFloat32);
    labels_ = Tensor(pool, matrix_shape(count, 1), Dtype::kInt32);
    slots_.resize(static_cast<size_t>(count));
    for (int64_t slot = 0; slot < count; ++slot) refill(slot);
  }

  bool done() const { return busy_ == 0; }
  int64_t finished() const { return finished_; }

  // One step of every slot.
  void step() {
    if (worth_shrinking()) shrink();
    const bool ends = every_slot_ends();
    const InputGradient g = input_gradient(exec_, pool_, model_, options_, x_adv_, {labels_},
                                           ends ? Wrt::kNothing : Wrt::kInput);
    const auto predictions = to_vector<int32_t>(exec_, g.prediction);
    const auto losses = to_vector<float>(exec_, g.loss);
    std::vector<bool> won(slots_.size());
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].sample < 0) continue;
      const auto slot = static_cast<int64_t>(i);
      const int64_t sample = slots_[i].sample;
      const bool success = predictions[i] != all_labels_[static_cast<size_t>(sample)];
      best_.offer(exec_, sample, losses[i], success, x_adv_, slot);
      won[i] = success && options_.stop == StopRule::kOnSuccess;
    }
    if (!ends) take_step(exec_, options_, x_adv_, g.dx, x_nat_);
    for (size_t i = 0; i < slots_.size(); ++i)
      if (slots_[i].sample >= 0) advance(static_cast<int64_t>(i), won[i]);
  }

 private:
  struct Slot {
    int64_t sample = -1;  // index in the input; -1: idle
    int restart = 0, step = 0;
  };

  // The last iterate of a restart is only looked at: no slot needs a gradient to go on with.
  bool every_slot_ends() const {
    return std::all_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
      return slot.sample < 0 || slot.step == options_.steps;
    });
  }

  void advance(int64_t at, bool won) {
    Slot& slot = slots_[static_cast<size_t>(at)];
    if (!won && ++slot.step <= options_.steps) return;
    slot.step = 0;
    if (!won && ++slot.restart < options_.restarts) return start(at);
    ++finished_;
    --busy_;
    refill(at);
  }

  void refill(int64_t at) {
    Slot& slot = slots_[static_cast<size_t>(at)];
    slot = Slot{};
    if (next_ == waiting_.size()) return;
    slot.sample = waiting_[next_++];
    ++busy_;
    copy_row(exec_, x_nat_, at, input_.x_nat, slot.sample);
    copy_row(exec_, labels_, at, input_labels_, slot.sample);
    start(at);
  }

  void start(int64_t at) {
    const Slot& slot = slots_[static_cast<size_t>(at)];
    take_start(exec_, options_, slot.restart == 0 ? options_.start : AttackStart::kRandom,
               x_adv_.samples(at, 1), x_nat_.samples(at, 1),
               attack_key(options_, static_cast<uint32_t>(slot.restart)),
               input_.samples.as<int64_t>() + slot.sample);
  }

  // Once half of the batch is idle and nothing waits. On a GPU a new shape costs more, by choosing
  // its plans, than idle slots do.
  bool worth_shrinking() const {
    return busy_ * 2 <= static_cast<int64_t>(slots_.size()) && next_ == waiting_.size() &&
           exec_.device().kind == DeviceKind::kCpu;
  }

  // Halves the batch: few shapes, few plans.
  void shrink() {
    const int64_t half = (static_cast<int64_t>(slots_.size()) + 1) / 2;
    int64_t to = 0;
    for (int64_t from = 0; from < static_cast<int64_t>(slots_.size()); ++from) {
      const Slot slot = slots_[static_cast<size_t>(from)];
      if (slot.sample < 0) continue;
      if (to != from) {
        copy_row(exec_, x_nat_, to, x_nat_, from);
        copy_row(exec_, x_adv_, to, x_adv_, from);
        copy_row(exec_, labels_, to, labels_, from);
        slots_[static_cast<size_t>(to)] = slot;
      }
      ++to;
    }
    for (int64_t i = to; i < half; ++i) slots_[static_cast<size_t>(i)] = Slot{};
    slots_.resize(static_cast<size_t>(half));
    x_nat_ = x_nat_.samples(0, half);
    x_adv_ = x_adv_.samples(0, half);
    labels_ = labels_.samples(0, half);
  }

  Exec& exec_;
  Pool& pool_;
  Model& model_;
  const AttackInput& input_;
  const Tensor input_labels_;  // a row each, whatever shape they came in
  const std::vector<int32_t>& all_labels_;
  const AttackOptions& options_;
  Best& best_;
  std::vector<int64_t> waiting_;
  size_t next_ = 0;
  int64_t busy_ = 0, finished_ = 0;
  Tensor x_nat_, x_adv_, labels_;
  std::vector<Slot> slots_;
};

}  // namespace

AttackResult attack(Exec& exec, Pool& pool, Model& model, const AttackInput& input,
                    const AttackOptions& options, int64_t batch_size,
                    const std::function<void(int64_t)>& progress) {
  const Shape shape = input.x_nat.shape();
  require_valid(options, input);
  require(batch_size >= 1, "attack: the batch size must be at least 1, got {}", batch_size);
  require(options.bn == AttackBn::kEval,
          "attack: with batch statistics a sample's result depends on the batch it is in; an "
          "evaluation runs on the running ones (AttackBn::kEval)");
  require(
      options.objective == AttackObjective::kCrossEntropy,
      "attack: the KL divergence from the image is an objective of training (TrainingAttack); an "
      "evaluation maximises the cross-entropy");
  const auto n = static_cast<size_t>(shape.n);
  const auto labels = to_vector<int32_t>(exec, input.labels);
  const auto wrong = [&](const std::vector<int32_t>& predictions) {
    std::vector<uint8_t> flags(n);
    for (size_t i = 0; i < n; ++i) flags[i] = predictions[i] != labels[i];
    return flags;
  };
  AttackResult result;
  result.clean_predictions = predict(exec, pool, model, input.x_nat, batch_size, options.norms);
  Best best{Tensor(pool, shape, Dtype::kFloat32), std::vector<float>(n, -1.0f),
            wrong(result.clean_predictions)};
  copy_view(exec, best.x_adv, input.x_nat);

  // A sample the model gets wrong as it is needs no attack: x_nat is its adversarial example.
  std::vector<int64_t> waiting;
  for (size_t i = 0; i < n; ++i)
    if (!best.fooled[i] || options.stop == StopRule::kAllSteps)
      waiting.push_back(static_cast<int64_t>(i));
  AttackOptions round = options;
  for (;;) {
    const int64_t already = shape.n - static_cast<int64_t>(waiting.size());
    if (!waiting.empty()) {
      SlotAttack slots(exec, pool, model, input, labels, round, best, std::move(waiting),
                       batch_size);
      while (!slots.done()) {
        slots.step();
        if (progress) progress(already + slots.finished());
      }
    }
    result.predictions = predict(exec, pool, model, best.x_adv, batch_size, options.norms);
    result.fooled = wrong(result.predictions);
    // What the pass that counts does not confirm is attacked again: first in its precision, and if
    // that is not enough (a batch of another shape rounds otherwise) through all steps, where the
    // largest loss is kept.
    waiting.clear();
    for (size_t i = 0; i < n; ++i)
      if (best.fooled[i] && !result.fooled[i]) {
        best.fooled[i] = 0;
        best.loss[i] = -1;
        waiting.push_back(static_cast<int64_t>(i));
      }
    const Dtype reference = model.params().master_dtype();
    const bool exact = round.dtype == reference;
    if (waiting.empty() || (exact && round.stop == StopRule::kAllSteps)) break;
    if (exact) round.stop = StopRule::kAllSteps;
    round.dtype = reference;
  }
  result.x_adv = best.x_adv;
  return result;
}

}  // namespace ringfort
