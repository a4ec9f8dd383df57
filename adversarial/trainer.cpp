#include "adversarial/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "adversarial/input.h"
#include "adversarial/state_files.h"
#include "engine/transfer.h"
#include "engine/version.h"
#include "kernels/device_memory.h"
#include "kernels/plans.h"
#include "kernels/update.h"
#include "models/checkpoint.h"

namespace ringfort {
namespace {

int decoding_threads(const Recipe& recipe, const Exec& exec) {
  return recipe.workers > 0 ? recipe.workers : exec.threads();
}

}  // namespace

double Trainer::now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Trainer::Trainer(Exec& exec, const Recipe& recipe, const Dataset& data, RobustAccuracy measure,
                 Comm* comm)
    : exec_(exec),
      recipe_(recipe),
      data_(data),
      measure_(std::move(measure)),
      pool_(exec.device()),
      split_(split_hold_out(data.count - data.pseudo_count, recipe.hold_out, recipe.seed)),
      comm_(comm),
      method_(make_method(recipe)),
      collapse_(recipe.collapse_drop, probe_images()) {
  require_consistent(data);
  if (!measure_)
    measure_ = [this](Model& model, const AttackInput& images, int steps) {
      return under_validation_attack(model, images, steps);
    };
  require(recipe.micro_batches >= 1 && recipe.batch_size % recipe.micro_batches == 0,
          "train: a batch of {} cannot be cut into {} equal micro-batches", recipe.batch_size,
          recipe.micro_batches);
  require(recipe.batch_size / recipe.micro_batches % ranks() == 0,
          "train: {} images cannot be shared out equally among {} ranks; make --batch-size a "
          "multiple of --micro-batches ({}) times the ranks, or give --batch-per-rank",
          recipe.batch_size, ranks(), recipe.micro_batches);
  const Dtype dtype = parse_dtype(recipe.dtype);
  ModelSpec spec;
  spec.name = recipe.model;
  spec.width = recipe.width;
  spec.classes = static_cast<int64_t>(data.class_names.size());
  spec.height = data.height;
  spec.image_width = data.width;
  spec.channels = data.channels;
  spec.mean = data.mean;
  spec.std = data.std;
  spec.auxiliary_norms = recipe.auxiliary_norms;
  const bool copy = dtype == Dtype::kBFloat16 || attack_dtype(recipe) == Dtype::kBFloat16;
  model_ = make_model(spec, {.bfloat16_copy = copy, .device = exec.device()});
  initialize(exec, model_->params(), recipe.seed);
  join_ranks();
  step_ = std::make_unique<TrainingStep>(
      exec, *model_, method_, make_optimizer(recipe), dtype, recipe.micro_batches,
      StepRanks{reducer_.get(), reducer_ && recipe.norm_statistics == "joint"});
  step_->optimizer().restart_average(exec);
  // A last batch that is not full would need plans and buffers of its own; its images come first in
  // another epoch.
  Companions pseudo;
  if (!data.pseudo_samples.empty())
    pseudo = {data.pseudo_samples, pseudo_images(recipe, pass_images())};
  feed_ = std::make_unique<Feed>(
      exec, data, split_.training,
      LoaderOptions{.batch_size = pass_images(),
                    .seed = recipe.seed,
                    .shuffle = true,
                    .drop_last = true,
                    .rank = rank(),
                    .ranks = ranks(),
                    .workers = decoding_threads(recipe, exec),
                    .random_resized_crop = recipe.augment == "random-resized-crop"},
      Residency::kAuto, std::move(pseudo));
  require(steps_per_epoch() > 0, "train: {} training images do not fill one batch of {}",
          split_.training.size(), recipe.batch_size);
  total_steps_ = steps_per_epoch() * recipe.epochs;
  if (recipe.max_steps > 0) total_steps_ = std::min(total_steps_, recipe.max_steps);
  schedule_ = StepSchedule(recipe, total_steps_, steps_per_epoch());
  if (recipe.hold_out == 0) return;
  validation_ = make_input(exec, pool_, data, held_out_part(recipe.hold_out), &broken_held_out_);
  const int64_t probed = probe_images();
  if (ranks() > 1) {  // parts of the first images held out, of which this rank may validate none
    probe_ = make_input(exec, pool_, data, held_out_part(probed));
    return;
  }
  probe_ = {validation_.x_nat.samples(0, probed), validation_.labels.samples(0, probed),
            validation_.samples.samples(0, probed)};
}

Trainer::~Trainer() = default;

void Trainer::take_init() {
  if (recipe_.init.empty() || resumed_ || init_taken_) return;
  const Checkpoint start = read_checkpoint(recipe_.init);
  put_weights(exec_, start, *model_);
  model_->set_normalization(start.spec.mean, start.spec.std);
  step_->optimizer().restart_average(exec_);
  init_taken_ = true;
}

double Trainer::under_validation_attack(Model& model, const AttackInput& images, int steps) {
  const AttackResult result =
      attack(exec_, pool_, model, images, validation_attack(recipe_, steps), pass_images());
  const auto standing = std::count(result.fooled.begin(), result.fooled.end(), uint8_t{0});
  return static_cast<double>(standing) / static_cast<double>(result.fooled.size());
}

TrainingResult Trainer::run(const std::filesystem::path& folder, TrainingObserver& observer) {
  take_init();
  require_same_weights();
  folder_ = folder;
  observer_ = &observer;
  const std::string header = fmt::format(
      "{} (width {}, {} parameters) on {}: {} by {}; {} steps of {} images, {} threads",
      model_->spec().name, model_->spec().width, model_->params().parameter_count(), data_.name,
      recipe_.method, method_.inner ? describe(*method_.inner) : "no attack", total_steps_,
      recipe_.batch_size, exec_.threads());
  const int64_t per_epoch = steps_per_epoch();
  int64_t first_step = 0;  // of the epoch
  int epoch = 0;
  if (resumed_) {
    // A state saved after an epoch's last step is from before that epoch's end.
    epoch = static_cast<int>(std::max<int64_t>(result_.steps - 1, 0) / per_epoch);
    first_step = result_.steps - epoch * per_epoch;
    observer_->on_resume(header, *resumed_, result_.steps);
    if (!resume_note_.empty()) observer_->on_message(resume_note_);
  } else {
    started_ = epoch_started_ = record_started_ = now();
    observer_->on_start(header);
    if (reducer_) observer_->on_message(reducer_->describe());
    if (reducer_ && reducer_->feedback().data != nullptr && !feedback_is_sound(recipe_))
      observer_->on_message(
          fmt::format("error feedback under {} is not sound: it takes the square of gradients in "
                      "which the past "
                      "is contained; sgd and lars are, or a compressor without bias",
                      recipe_.opt));
    if (!broken_held_out_.empty())
      observer_->on_message("of the images held out, " + describe(broken_held_out_));
  }
  bool more = true;
  for (; more && epoch < recipe_.epochs && (result_.steps < total_steps_ || first_step > 0);
       ++epoch)
    more = run_epoch(epoch, std::exchange(first_step, 0));
  result_.best = best_;
  result_.seconds = now() - started_;
  exec_.plans().save();
  if (!result_.interrupted && rank() == 0) {
    observer_->on_end(result_.collapsed);
    remove_states(folder_);
  }
  return result_;
}

// The totals since the last call, which also count for the epoch.
StepTotals Trainer::take_totals() {
  const StepTotals totals = step_->take_totals();
  epoch_totals_ += totals;
  if (totals.skipped == 0) return totals;
  skipped_ += totals.skipped;
  const int64_t first = result_.steps - totals.steps + totals.first_skipped;
  const std::string which = totals.skipped == 1
                                ? fmt::format("step {}", first)
                                : fmt::format("{} steps from step {}", totals.skipped, first);
  observer_->on_message(fmt::format(
      "{}: the loss or its gradient was not finite; nothing was changed by it ({} skipped so far); "
      "ringfort replay RUN {} shows where",
      which, skipped_, first));
  require(skipped_ <= recipe_.max_skipped,
          "train: {} steps by step {} had no finite loss and gradient, and no more than {} are "
          "allowed (--max-skipped); lower --lr (now {}) or, where this is early in training, raise "
          "--warmup-epochs (now {})",
          skipped_, result_.steps, recipe_.max_skipped, recipe_.lr, recipe_.warmup_epochs);
  return totals;
}

AttackInput Trainer::next_input(uint32_t epoch) {
  DeviceBatch batch;
  require(feed_->next(pool_, batch), "train: epoch {} has no further batch", epoch + 1);
  AttackInput input = make_input(exec_, pool_, batch, training_augment(recipe_, epoch), epoch);
  return recipe_.mixup > 0 ? mixed_up(exec_, pool_, input, recipe_.mixup, recipe_.seed) : input;
}

void Trainer::run_step(uint32_t epoch) {
  const StepOptions options = schedule_.at(result_.steps);
  if (reducer_) step_->wish_to_stop(observer_->stop_requested());
  for (int part = 0; part < recipe_.micro_batches; ++part) {
    step_->begin_data();
    step_->run(next_input(epoch), options);
    broken_of_epoch_.insert(broken_of_epoch_.end(), feed_->broken().begin(), feed_->broken().end());
  }
  ++result_.steps;
}

// False where training is over: collapsed, or asked to stop.
bool Trainer::run_epoch(int epoch, int64_t first_step) {
  if (first_step == 0) {
    epoch_totals_ = {};
    broken_of_epoch_.clear();
    epoch_started_ = now();
  }
  const auto key = static_cast<uint32_t>(epoch);
  const int64_t end = std::min(total_steps_, (epoch + int64_t{1}) * steps_per_epoch());
  feed_->start_epoch(key, first_step * recipe_.micro_batches);
  bool healthy = true;
  while (healthy && result_.steps < end) {
    run_step(key);
    healthy = after_step();
    const bool stop = reducer_ ? step_->any_wished_to_stop() : observer_->stop_requested();
    if (healthy && (stop || (recipe_.save_every > 0 && result_.steps % recipe_.save_every == 0)))
      save_state_file();
    if (healthy && stop) {
      result_.interrupted = true;
      return false;
    }
  }
  if (!healthy) result_.collapsed = true;
  finish_epoch(epoch);
  return healthy;
}

// Records and probes where it is time to; false where training must stop.
bool Trainer::after_step() {
  const bool probe =
      recipe_.probe_every > 0 && result_.steps % recipe_.probe_every == 0 && probe_.x_nat;
  if (!probe && result_.steps % recipe_.log_every != 0 && result_.steps != total_steps_)
    return true;
  return record_steps(probe);
}

// Tells of the steps since the last record; false where training must stop. Only here does the host
// wait for the device.
bool Trainer::record_steps(bool probe) {
  const StepTotals totals = take_totals();
  if (totals.images == 0) return true;  // all were skipped: there is nothing to tell or to probe
  StepRecord record;
  record.step = result_.steps;
  record.total_steps = total_steps_;
  record.epoch = static_cast<double>(result_.steps) / static_cast<double>(steps_per_epoch());
  record.loss = totals.mean_loss();
  record.accuracy = totals.accuracy();
  record.lr = schedule_.lr(result_.steps - 1);
  record.images_per_second =
      static_cast<double>(totals.images) / std::max(now() - record_started_, 1e-9);
  const bool healthy = !probe || healthy_after_probe(record);
  record.phases = totals.mean_seconds();
  record.memory = memory().total();
  record.seconds = now() - started_;
  record.eta_seconds = record.seconds / static_cast<double>(result_.steps) *
                       static_cast<double>(total_steps_ - result_.steps);
  observer_->on_step(record);
  record_started_ = now();
  return healthy;
}

// Runs the probe; false where training must stop.
bool Trainer::healthy_after_probe(StepRecord& record) {
  const double probed = static_cast<double>(probe_.x_nat.shape().n);
  record.probe_accuracy =
      share_of_all(measure_(*model_, probe_, 10) * probed, probed, "the collapse probe");
  // Standard training is not meant to be robust; that it is not is no collapse.
  if (!method_.inner) return true;
  const auto sentence = collapse_.observe(*record.probe_accuracy, record.accuracy, record.step);
  if (!sentence) {
    healthy_.reset();  // its memory serves the next one
    healthy_.emplace(exec_, pool_, model_->params(), step_->optimizer());
    healthy_accuracy_ = *record.probe_accuracy;
    return true;
  }
  observer_->on_message(*sentence);
  if (recipe_.on_collapse == "continue") return true;
  // Where training stops, too: collapsed weights become neither the best nor the last checkpoint.
  go_back();
  if (recipe_.on_collapse == "restore") return true;
  observer_->on_message(
      "training stops here; best and last checkpoint are from before the collapse");
  return false;
}

void Trainer::go_back() {
  healthy_->restore(exec_, model_->params(), step_->optimizer());
  observer_->on_message(
      fmt::format("went back to the weights of the last healthy probe ({:.1f} % under PGD)",
                  100 * healthy_accuracy_));
}

void Trainer::finish_epoch(int epoch) {
  take_totals();  // of the steps since the last record
  share_statistics();
  EpochRecord record;
  record.epoch = epoch + 1;
  record.step = result_.steps;
  record.train_loss = epoch_totals_.mean_loss();
  record.train_accuracy = epoch_totals_.accuracy();
  record.lr = schedule_.lr(result_.steps - 1);
  record.images_per_second =
      static_cast<double>(epoch_totals_.images) / std::max(now() - epoch_started_, 1e-9);
  if (recipe_.ema_decay > 0) save(kLiveCheckpoint, record, {});  // accuracies are the average's
  record.phases = epoch_totals_.mean_seconds();
  with_kept_weights(static_cast<uint32_t>(epoch), [&] { validate_and_save(record); });
  record.memory = memory().total();
  record.seconds = now() - started_;
  observer_->on_epoch(record);
  if (reducer_) observer_->on_message(exchange_text());
  if (!broken_of_epoch_.empty())
    observer_->on_message(fmt::format("in epoch {}, {}", record.epoch, describe(broken_of_epoch_)));
  // A network that answers every class alike has this loss.
  const double guessing =
      (1 + method_.outer.natural_weight) * std::log(static_cast<double>(model_->spec().classes));
  const bool cross_entropy = method_.outer.kind == OuterLossKind::kCrossEntropy;
  if (cross_entropy && record.train_loss >= guessing)
    observer_->on_message(
        fmt::format("the training loss of epoch {}, {:.3f}, is no better than guessing ({:.3f}); "
                    "if that stays so, a smaller --lr helps",
                    record.epoch, record.train_loss, guessing));
  record_started_ = now();
}

// Runs `body` while the model has the weights that are validated and kept: where an average is
// taken, the averaged ones. Afterwards all is as before, bit for bit.
void Trainer::with_kept_weights(uint32_t epoch, const std::function<void()>& body) {
  const View average = step_->optimizer().average();
  if (average.data == nullptr) return body();
  ParamStore& params = model_->params();
  const View statistics = params.flat_statistics();
  const Tensor live(pool_, statistics.shape, statistics.dtype);
  copy_view(exec_, live, statistics);
  const auto trade_places = [&] {
    exchange(exec_, params.flat_master(), average);
    params.master_changed(exec_);
  };
  trade_places();
  if (recipe_.ema_statistics == "re-estimate") estimate_statistics(epoch);
  body();
  trade_places();
  copy_view(exec_, statistics, live);
  params.statistics_changed();
}

// The running statistics become the mean over some batches of the epoch, under the training attack,
// of the weights as they now are.
void Trainer::estimate_statistics(uint32_t epoch) {
  const int64_t most = exec_.planned() ? 1 : 32;  // they all take the same memory
  feed_->start_epoch(epoch);
  const int64_t batches = std::min(most, feed_->loader().batches_per_epoch());
  for (int64_t batch = 0; batch < batches; ++batch)
    step_->observe_statistics(pool_, next_input(epoch), batch);
}

// Of the weights as they now are, live or averaged.
void Trainer::validate_and_save(EpochRecord& record) {
  if (validation_.x_nat) {
    const auto predictions = predict(exec_, pool_, *model_, validation_.x_nat, pass_images(),
                                     attacked_norms(recipe_.auxiliary_norms));
    const auto labels = to_vector<int32_t>(exec_, validation_.labels);
    int64_t correct = 0;
    for (size_t i = 0; i < predictions.size(); ++i) correct += predictions[i] == labels[i];
    const auto images = static_cast<double>(predictions.size());
    record.clean_accuracy =
        share_of_all(static_cast<double>(correct), images, "clean images held out");
    record.robust_accuracy =
        share_of_all(measure_(*model_, validation_, recipe_.val_attack_steps) * images, images,
                     "attacked images held out");
  }
  record.best = best_.observe(record.epoch, record.robust_accuracy);
  std::string weights;
  if (recipe_.ema_decay > 0)
    weights = fmt::format("exponential moving average, decay {}", recipe_.ema_decay);
  if (record.best) save(kBestCheckpoint, record, weights);
  save(kLastCheckpoint, record, weights);
}

void Trainer::save(const char* name, const EpochRecord& record, const std::string& weights) {
  if (rank() != 0) return;
  std::map<std::string, std::string> metadata = {{"ringfort.version", std::string(version())},
                                                 {"ringfort.dataset", data_.name},
                                                 {"ringfort.epoch", std::to_string(record.epoch)}};
  if (!weights.empty()) metadata["ringfort.weights"] = weights;
  const auto note = [&](const char* key, std::optional<double> accuracy) {
    if (accuracy) metadata[key] = fmt::format("{:.4f}", *accuracy);
  };
  note("ringfort.held_out_clean_accuracy", record.clean_accuracy);
  note("ringfort.held_out_robust_accuracy", record.robust_accuracy);
  save_checkpoint(folder_ / name, *model_, metadata);
}

}  // namespace ringfort
