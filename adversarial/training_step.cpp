#include "adversarial/training_step.h"

#include <array>
#include <utility>

#include "kernels/device_memory.h"
#include "kernels/loss.h"

namespace ringfort {

StepTotals& StepTotals::operator+=(const StepTotals& other) {
  loss += other.loss;
  correct += other.correct;
  images += other.images;
  return *this;
}

TrainingStep::TrainingStep(Exec& exec, Model& model, const TrainingMethod& method, SgdOptions sgd,
                           Dtype dtype)
    : exec_(exec),
      attack_pool_(exec.device()),
      training_pool_(exec.device()),
      model_(model),
      outer_(method.outer),
      dtype_(dtype),
      optimizer_(model.params(), sgd),
      totals_(training_pool_, matrix_shape(2, 1), Dtype::kFloat64),
      // As in the attack's graph: what is made of weights is made in every replay.
      graph_(exec, "training pass", [this] { train(); },
             {.before_capture = [this] { model_.params().cache().forget(); }}) {
  if (method.inner) attack_.emplace(exec, attack_pool_, model, *method.inner);
  clear(exec, totals_);
}

void TrainingStep::run(const AttackInput& batch, double lr) {
  const Shape shape = batch.x_nat.shape();
  if (attack_) {
    x_ = attack_->run(batch);
  } else {
    if (!x_) x_ = Tensor(training_pool_, shape, Dtype::kFloat32);
    copy_view(exec_, x_, batch.x_nat);
  }
  if (!labels_) labels_ = Tensor(training_pool_, vector_shape(shape.n), Dtype::kInt32);
  copy_view(exec_, labels_, batch.labels);
  optimizer_.set_lr(exec_, lr);
  graph_.run(shape);
  // A replay does not say so itself.
  model_.params().master_and_copy_changed();
  model_.params().statistics_changed();
  images_ += shape.n;
}

void TrainingStep::train() {
  Loss loss;
  {
    Pass p(exec_, training_pool_, model_.params(), {Wrt::kParams, BnMode::kBatchAndUpdate, dtype_});
    const Var logits = model_.forward(p, p.input(x_));
    loss = outer_loss(p, outer_, logits, labels_);
    p.backward(logits, std::move(loss.dlogits));
  }
  optimizer_.step(exec_);
  add_batch_totals(exec_, totals_.samples(0, 1), totals_.samples(1, 1), loss.loss, loss.prediction,
                   labels_);
}

std::vector<NamedView> TrainingStep::state() const {
  std::vector<NamedView> all = optimizer_.state();
  all.push_back({"totals", totals_});
  return all;
}

StepTotals TrainingStep::take_totals() {
  std::array<double, 2> sums{};
  to_host(exec_, sums.data(), totals_);
  clear(exec_, totals_);
  return {sums[0], static_cast<int64_t>(sums[1]), std::exchange(images_, 0)};
}

}  // namespace ringfort
