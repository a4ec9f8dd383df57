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

TrainingStep::TrainingStep(Exec& exec, Pool& pool, Model& model, const TrainingMethod& method,
                           SgdOptions sgd, Dtype dtype)
    : exec_(exec),
      pool_(pool),
      attack_pool_(exec.device()),
      model_(model),
      outer_(method.outer),
      dtype_(dtype),
      optimizer_(model.params(), sgd),
      totals_(pool, matrix_shape(2, 1), Dtype::kFloat64) {
  if (method.inner) attack_.emplace(exec, attack_pool_, model, *method.inner);
  clear(exec, totals_);
}

void TrainingStep::run(const AttackInput& batch, double lr) {
  const Tensor x = attack_ ? attack_->run(batch) : batch.x_nat;
  Loss loss;
  {
    Pass p(exec_, pool_, model_.params(), {Wrt::kParams, BnMode::kBatchAndUpdate, dtype_});
    const Var logits = model_.forward(p, p.input(x));
    loss = outer_loss(p, outer_, logits, batch.labels);
    p.backward(logits, std::move(loss.dlogits));
  }
  optimizer_.step(exec_, lr);
  add_batch_totals(exec_, totals_.samples(0, 1), totals_.samples(1, 1), loss.loss, loss.prediction,
                   batch.labels);
  images_ += x.shape().n;
}

StepTotals TrainingStep::take_totals() {
  std::array<double, 2> sums{};
  to_host(exec_, sums.data(), totals_);
  clear(exec_, totals_);
  return {sums[0], static_cast<int64_t>(sums[1]), std::exchange(images_, 0)};
}

}  // namespace ringfort
