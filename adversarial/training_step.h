// TrainingStep: from a batch on the device to moved weights: inner attack -> training pass ->
// update. The attack is one Graph, the pass with the update another.
#pragma once

#include "adversarial/method.h"
#include "engine/optimizer.h"

namespace ringfort {

// Over some steps of training.
struct StepTotals {
  double loss = 0;                  // sum over the images
  int64_t correct = 0, images = 0;  // under the training attack, by the training pass

  double mean_loss() const { return images > 0 ? loss / static_cast<double>(images) : 0; }
  double accuracy() const {
    return images > 0 ? static_cast<double>(correct) / static_cast<double>(images) : 0;
  }
  StepTotals& operator+=(const StepTotals& other);
};

// What one step of training does to a batch; the benches time it alone.
class TrainingStep {
 public:
  TrainingStep(Exec& exec, Model& model, const TrainingMethod& method, SgdOptions sgd, Dtype dtype);
  TrainingStep(const TrainingStep&) = delete;  // its graphs hold its address
  TrainingStep& operator=(const TrainingStep&) = delete;

  // x_nat (N, H, W, C) float32 in [0, 1], the same shape at every call. Queues the step and does
  // not wait for the device.
  void run(const AttackInput& batch, double lr);

  // Of the steps since the last call; waits until they are done.
  StepTotals take_totals();

  // What it carries from step to step beside the model: the optimizer's state and the totals since
  // the last take_totals(), which are of pending_images().
  std::vector<NamedView> state() const;
  int64_t pending_images() const { return images_; }
  void set_pending_images(int64_t images) { images_ = images; }

  Sgd& optimizer() { return optimizer_; }
  int64_t attack_weight_gradients() const { return attack_ ? attack_->weight_gradients() : 0; }
  // Kernels that one step launches, as recorded; 0 where it is not.
  int64_t attack_kernels(int64_t batch) const { return attack_ ? attack_->kernels(batch) : 0; }
  int64_t training_kernels() const { return graph_.kernels(); }
  // Memory of the training pass; the attack has its own.
  Pool& training_pool() { return training_pool_; }
  Pool& attack_pool() { return attack_pool_; }

 private:
  void train();  // what the graph records

  Exec& exec_;
  // Of their graphs alone, which write to blocks that are free in them.
  Pool attack_pool_, training_pool_;
  Model& model_;
  OuterLoss outer_;
  Dtype dtype_;
  std::optional<TrainingAttack> attack_;
  Sgd optimizer_;
  Tensor x_, labels_;   // of the training pass, at addresses that stay
  Tensor totals_;       // sums of losses and of right answers, float64, kept on the device
  int64_t images_ = 0;  // that they are of
  Graph graph_;
};

}  // namespace ringfort
