// TrainingStep: from a batch on the device to moved weights: inner attack -> training pass (with
// weight perturbation: two) -> update. The attack is one Graph, the rest another.
#pragma once

#include <map>

#include "adversarial/method.h"
#include "adversarial/phases.h"
#include "adversarial/weight_perturbation.h"
#include "distributed/reducer.h"
#include "engine/optimizer.h"

namespace ringfort {

// Over some steps of training. Of a step whose gradient was not finite, and which therefore changed
// nothing, only the number counts.
struct StepTotals {
  double loss = 0;                  // sum over the images
  int64_t correct = 0, images = 0;  // under the training attack, by the training pass
  int64_t steps = 0;
  int64_t skipped = 0;        // of them, those that changed nothing
  int64_t first_skipped = 0;  // which was the first of those, from 1
  PhaseSeconds seconds = {};  // of all steps, skipped ones too

  double mean_loss() const { return images > 0 ? loss / static_cast<double>(images) : 0; }
  PhaseSeconds mean_seconds() const;  // of a step
  double accuracy() const {
    return images > 0 ? static_cast<double>(correct) / static_cast<double>(images) : 0;
  }
  StepTotals& operator+=(const StepTotals& other);
};

// The other ranks of a training, each of which has its part of every batch.
struct StepRanks {
  Reducer* reducer = nullptr;  // null: there are none; outlives the step
  bool joint_norms = false;    // batch norms of the training pass see the images of all ranks
};

struct StepOptions {
  UpdateOptions update = {};
  bool perturb = true;  // the weights, where the method does that at all
  int64_t step =
      0;  // its number, from 0: between ranks all random numbers of a step follow from it
};

// What one step of training does to a batch; the benches time it alone.
class TrainingStep {
 public:
  // micro_batches: a step takes as many calls of run(), whose gradients are averaged (gradient
  // accumulation); its norms see each alone. Errors: several together with weight perturbation,
  // which needs the whole batch's gradient first.
  TrainingStep(Exec& exec, Model& model, const TrainingMethod& method,
               const OptimizerOptions& optimizer, Dtype dtype, int micro_batches = 1,
               const StepRanks& ranks = {});
  TrainingStep(const TrainingStep&) = delete;  // its graphs hold its address
  TrainingStep& operator=(const TrainingStep&) = delete;

  // Before a batch is asked for: time from here to run() is the data's.
  void begin_data() { begin(Phase::kData); }

  // x_nat (N, H, W, C) float32 in [0, 1], the same shape at every call, and always a mixture or
  // never. Queues the step and does not wait for the device.
  void run(const AttackInput& batch, const StepOptions& options);

  // What run() does up to the gradient, with the values watched: a step takes as many calls, after
  // whose last the gradient is the step's. Weights stay, but for a perturbation, and a step must
  // not follow.
  OuterResult watch(const AttackInput& batch, const StepOptions& options, const Watch& watch);

  // Moves the running statistics towards those of this batch, as a step's passes see it, so that
  // after batches 0 ... k they are the mean over all of these. The weights stay.
  // pool: not one of the graphs'.
  void observe_statistics(Pool& pool, const AttackInput& batch, int64_t number);

  // Between ranks: each says before a step whether it wishes to stop, and after the step all know
  // alike whether any did.
  void wish_to_stop(bool wishes) { wish_ = wishes ? 1 : 0; }
  bool any_wished_to_stop() const { return wishes_ > 0; }

  // Of the steps since the last call, over all ranks; waits until they are done.
  StepTotals take_totals();

  // What it carries from step to step beside the weights and the optimizer: the totals since the
  // last take_totals() and what they took of each phase. Between steps no phase runs, so that the
  // clock may stand still.
  std::vector<NamedView> state() const { return {{"totals", totals_}, {"clock", clock_}}; }

  Optimizer& optimizer() { return optimizer_; }
  int64_t attack_weight_gradients() const { return attack_ ? attack_->weight_gradients() : 0; }
  // Kernels that one step launches, as recorded; 0 where it is not.
  int64_t attack_kernels(int64_t batch) const { return attack_ ? attack_->kernels(batch) : 0; }
  int64_t training_kernels() const;
  // Memory of the training pass; the attack has its own.
  Pool& training_pool() { return training_pool_; }
  Pool& attack_pool() { return attack_pool_; }
  int64_t bytes_reserved() const;  // of the optimizer and the weight perturbation

 private:
  // What a graph records; each kind has its own.
  struct Work {
    bool first, last;  // of the micro-batches of a step
    bool perturb;
    auto operator<=>(const Work&) const = default;
  };
  void begin(Phase phase);
  Work next_work(const StepOptions& options);
  void take_batch(const AttackInput& batch);
  OuterResult gradient(const Work& work, BnMode bn, const Watch* watch);
  OuterResult final_gradient(const Work& work, const Watch* watch = nullptr);
  void train(const Work& work);
  void exchange_totals();
  void finish_step(const Work& work);
  Graph& graph_for(const Work& work);

  Exec& exec_;
  // Of their graphs alone, which write to blocks that are free in them.
  Pool attack_pool_, training_pool_;
  Model& model_;
  OuterLoss outer_;
  Dtype dtype_;
  int micro_batches_;
  int next_ = 0;  // micro-batch of the step
  const StepRanks ranks_;
  SumOverRanks sum_over_ranks_;  // for joint norms
  int64_t step_number_ = 0;
  double wish_ = 0, wishes_ = 0;
  std::optional<TrainingAttack> attack_;
  std::optional<WeightPerturbation> perturbation_;
  Optimizer optimizer_;
  OuterBatch batch_;   // of the training pass, at addresses that stay
  Tensor statistics_;  // running statistics before the step
  Tensor sums_;        // of the step: losses and right answers, float64
  Tensor totals_;      // StepTotals, float64
  Tensor clock_;       // PhaseClock, int64
  std::map<Work, Graph> graphs_;
};

}  // namespace ringfort
