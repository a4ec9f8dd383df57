#include "adversarial/training_step.h"

#include <array>

#include "adversarial/attack_steps.h"
#include "engine/transfer.h"
#include "kernels/device_memory.h"
#include "kernels/phase_clock.h"
#include "kernels/step_totals.h"

namespace ringfort {
namespace {

// float32 or float64, through the host.
std::vector<double> to_doubles(Exec& exec, const View& view) {
  if (view.dtype == Dtype::kFloat64) return to_vector<double>(exec, view);
  const std::vector<float> values = to_vector<float>(exec, view);
  return {values.begin(), values.end()};
}
void from_doubles(Exec& exec, const View& view, const std::vector<double>& values) {
  const std::vector<float> narrow(values.begin(), values.end());
  if (view.dtype == Dtype::kFloat64)
    to_device(exec, view, values.data());
  else
    to_device(exec, view, narrow.data());
  synchronize(exec);  // before the host's copy goes
}

}  // namespace

StepTotals& StepTotals::operator+=(const StepTotals& other) {
  loss += other.loss;
  correct += other.correct;
  images += other.images;
  if (skipped == 0 && other.skipped > 0) first_skipped = steps + other.first_skipped;
  steps += other.steps;
  skipped += other.skipped;
  for (size_t i = 0; i < seconds.size(); ++i) seconds.at(i) += other.seconds.at(i);
  return *this;
}

PhaseSeconds StepTotals::mean_seconds() const {
  PhaseSeconds mean = seconds;
  for (double& value : mean) value /= static_cast<double>(std::max<int64_t>(steps, 1));
  return mean;
}

TrainingStep::TrainingStep(Exec& exec, Model& model, const TrainingMethod& method,
                           const OptimizerOptions& optimizer, Dtype dtype, int micro_batches,
                           const StepRanks& ranks)
    : exec_(exec),
      attack_pool_(exec.device()),
      training_pool_(exec.device()),
      model_(model),
      outer_(method.outer),
      dtype_(dtype),
      micro_batches_(micro_batches),
      ranks_(ranks),
      optimizer_(model.params(), optimizer) {
  require(micro_batches >= 1 && (micro_batches == 1 || method.weight_perturbation == 0),
          "train: weight perturbation needs the gradient of a whole batch and cannot be combined "
          "with {} micro-batches per step",
          micro_batches);
  if (ranks.joint_norms)
    sum_over_ranks_ = [this](Exec& own, const View& sums) {
      std::vector<double> values = to_doubles(own, sums);
      ranks_.reducer->sum(values, "sums of batch norms");
      from_doubles(own, sums, values);
    };
  if (method.inner) attack_.emplace(exec, attack_pool_, model, *method.inner);
  if (method.weight_perturbation > 0)
    perturbation_.emplace(model.params(), method.weight_perturbation);
  const View statistics = model.params().flat_statistics();
  statistics_ = Tensor(training_pool_, statistics.shape, statistics.dtype);
  sums_ = zeros(training_pool_, matrix_shape(2, 1), Dtype::kFloat64);
  totals_ = zeros(training_pool_, vector_shape(StepSums::kCount), Dtype::kFloat64);
  clock_ = zeros(training_pool_, vector_shape(PhaseClock::kCount), Dtype::kInt64);
  static_assert(PhaseClock::kPhases == kPhaseNames.size());
}

void TrainingStep::begin(Phase phase) {
  begin_phase(exec_, clock_, static_cast<int64_t>(phase) + 1);
}

void TrainingStep::take_batch(const AttackInput& batch) {
  if (attack_) {
    auto [x_nat, x_adv, labels, mixture] = attack_->run(batch);
    batch_ = {std::move(x_nat), std::move(x_adv), std::move(labels), std::move(mixture)};
    return;
  }
  if (!batch_.x_adv) {
    batch_.x_adv = Tensor(training_pool_, batch.x_nat.shape(), Dtype::kFloat32);
    batch_.labels = Tensor(training_pool_, vector_shape(batch.x_nat.shape().n), Dtype::kInt32);
  }
  if (batch.mixture.labels && !batch_.mixture.labels)
    batch_.mixture = empty_mixture(training_pool_, batch.x_nat.shape().n);
  copy_mixture(exec_, batch_.mixture, batch.mixture);
  copy_view(exec_, batch_.x_adv, batch.x_nat);
  copy_view(exec_, batch_.labels, batch.labels);
}

TrainingStep::Work TrainingStep::next_work(const StepOptions& options) {
  const Work work{next_ == 0, next_ + 1 == micro_batches_, perturbation_ && options.perturb};
  next_ = work.last ? 0 : next_ + 1;
  return work;
}

void TrainingStep::run(const AttackInput& batch, const StepOptions& options) {
  const Work work = next_work(options);
  ParamStore& params = model_.params();
  if (work.first) {
    copy_view(exec_, statistics_, params.flat_statistics());
    optimizer_.set(exec_, options.update);
    step_number_ = options.step;
  }
  begin(Phase::kAttack);
  take_batch(batch);
  if (ranks_.reducer == nullptr) {
    graph_for(work).run(batch.x_nat.shape());
  } else {  // not recorded: buckets of the gradient leave while backward runs
    if (work.last) ranks_.reducer->begin(options.step, options.update.lr);
    train(work);
  }
  // A replay does not say so itself.
  params.master_and_copy_changed();
  params.statistics_changed();
}

void TrainingStep::observe_statistics(Pool& pool, const AttackInput& batch, int64_t number) {
  ParamStore& params = model_.params();
  // An attack in training mode moves them, too, but counts for nothing here.
  copy_view(exec_, statistics_, params.flat_statistics());
  take_batch(batch);
  copy_view(exec_, params.flat_statistics(), statistics_);
  const std::vector<SeenImages> seen = seen_images(outer_, batch_);
  const auto passes = static_cast<int64_t>(seen.size());
  for (int64_t i = 0; i < passes; ++i) {
    PassOptions options{Wrt::kNothing, BnMode::kBatchAndUpdate, dtype_};
    options.norms = seen[static_cast<size_t>(i)].norms;
    const bool shared = outer_.norms == Norms::kMain;  // by all passes
    options.statistics_share =
        1 / static_cast<float>(shared ? number * passes + i + 1 : number + 1);
    Pass p(exec_, pool, params, options);
    model_.forward(p, p.input(seen[static_cast<size_t>(i)].images));
  }
  params.statistics_changed();
}

Graph& TrainingStep::graph_for(const Work& work) {
  const auto found = graphs_.find(work);
  if (found != graphs_.end()) return found->second;
  // As in the attack's graph: what is made of weights is made in every replay.
  const GraphOptions options{.before_capture = [this] { model_.params().cache().forget(); },
                             .pool = &training_pool_};
  return graphs_
      .try_emplace(
          work, exec_, "training pass", [this, work] { train(work); }, options)
      .first->second;
}

OuterResult TrainingStep::gradient(const Work& work, BnMode bn, const Watch* watch) {
  PassOptions options{Wrt::kParams, bn, dtype_};
  options.accumulate = !work.first;
  options.watch = watch;
  Pass::OnReady on_ready;
  int64_t images = batch_.x_adv.shape().n * micro_batches_;
  if (ranks_.reducer != nullptr) {
    images *= ranks_.reducer->ranks();
    if (ranks_.joint_norms) options.sum_over_ranks = &sum_over_ranks_;
    if (work.last && bn == BnMode::kBatchAndUpdate)
      on_ready = [this](ParamId id) { ranks_.reducer->ready(id); };
  }
  return outer_gradient(exec_, training_pool_, model_, outer_, batch_, options, images, on_ready);
}

OuterResult TrainingStep::final_gradient(const Work& work, const Watch* watch) {
  if (work.perturb) {
    gradient(work, BnMode::kBatch, watch);
    if (ranks_.reducer != nullptr) ranks_.reducer->sum_gradient(step_number_);
    perturbation_->perturb(exec_);
    if (watch != nullptr) (*watch)("the perturbed weights", model_.params().flat_master());
  }
  return gradient(work, BnMode::kBatchAndUpdate, watch);
}

OuterResult TrainingStep::watch(const AttackInput& batch, const StepOptions& options,
                                const Watch& watch) {
  watch("the images", batch.x_nat);
  take_batch(batch);
  watch("the attacked images", batch_.x_adv);
  return final_gradient(next_work(options), &watch);
}

void TrainingStep::train(const Work& work) {
  begin(Phase::kTraining);
  const OuterResult result = final_gradient(work);
  if (work.first) clear(exec_, sums_);
  add_batch_totals(exec_, sums_.samples(0, 1), sums_.samples(1, 1), result.loss, result.prediction,
                   batch_.labels);
  if (work.last) finish_step(work);
}

// From here on gradient, loss and right answers are those of all ranks: whether the step counts is
// decided by the same numbers everywhere.
void TrainingStep::exchange_totals() {
  std::array<double, 3> sums{};
  to_host(exec_, sums.data(), sums_);
  sums[2] = wish_;
  ranks_.reducer->finish(sums);
  wishes_ = sums[2];
  to_device(exec_, sums_, sums.data());
}

void TrainingStep::finish_step(const Work& work) {
  begin(Phase::kUpdate);
  if (ranks_.reducer != nullptr) exchange_totals();
  const View from = work.perturb ? perturbation_->weights() : View{};
  optimizer_.step(exec_, sums_.view().samples(0, 1), from);
  keep_unless_finite(exec_, model_.params().flat_statistics(), statistics_, optimizer_.check());
  const int ranks = ranks_.reducer != nullptr ? ranks_.reducer->ranks() : 1;
  const int64_t images = batch_.x_adv.shape().n * micro_batches_ * ranks;
  add_step(exec_, totals_, sums_, optimizer_.check(), images);
  begin_phase(exec_, clock_, 0);
}

StepTotals TrainingStep::take_totals() {
  std::array<double, StepSums::kCount> sums{};
  to_host(exec_, sums.data(), totals_);
  clear(exec_, totals_);
  PhaseClock clock;
  to_host(exec_, &clock, clock_);
  clear(exec_, clock_);
  const auto count = [&](int at) { return static_cast<int64_t>(sums.at(static_cast<size_t>(at))); };
  StepTotals totals{sums[0], count(1), count(2), count(3), count(4), count(5)};
  for (size_t i = 0; i < totals.seconds.size(); ++i)
    totals.seconds.at(i) = 1e-9 * static_cast<double>(clock.nanoseconds[i]);
  return totals;
}

int64_t TrainingStep::training_kernels() const {
  int64_t most = 0;
  for (const auto& [work, graph] : graphs_) most = std::max(most, graph.kernels());
  return most;
}

int64_t TrainingStep::bytes_reserved() const {
  return optimizer_.bytes_reserved() + (perturbation_ ? perturbation_->bytes_reserved() : 0);
}

}  // namespace ringfort
