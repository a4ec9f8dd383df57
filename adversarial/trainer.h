// Trainer: the training loop. Per step, in this order: batch -> augment -> inner attack -> training
// pass -> update.
#pragma once

#include <filesystem>
#include <functional>

#include "adversarial/best_epoch.h"
#include "adversarial/collapse.h"
#include "adversarial/memory_plan.h"
#include "adversarial/method.h"
#include "adversarial/observer.h"
#include "adversarial/optimization.h"
#include "adversarial/replay.h"
#include "adversarial/training_step.h"
#include "engine/data/dataset.h"
#include "engine/data/feed.h"
#include "engine/data/hold_out.h"
#include "engine/snapshot.h"

namespace ringfort {

struct TrainingResult {
  int64_t steps = 0;
  double seconds = 0;  // training and validation
  BestEpoch best;
  bool collapsed = false;    // training stopped because of catastrophic overfitting
  bool interrupted = false;  // the observer asked it to stop; its state is saved
};

// Robust accuracy of the model on some images under PGD with so many steps, in [0, 1].
using RobustAccuracy = std::function<double(Model& model, const AttackInput& images, int steps)>;

// Trains by the recipe on `data`.
class Trainer {
 public:
  // Checks the recipe against the data; writes nothing. measure: what the collapse probes and the
  // choice of the best epoch go by; where it is empty, validation_attack(). comm: the ranks of the
  // job, each of which has a Trainer of the same recipe and data; null: this is the only one. Rank
  // 0 alone writes files and has an observer that needs to hear anything; every observer is asked
  // whether to stop.
  Trainer(Exec& exec, const Recipe& recipe, const Dataset& data, RobustAccuracy measure = {},
          Comm* comm = nullptr);
  ~Trainer();

  // Takes up a training where a state file of the same recipe left it: everything that follows has
  // the bytes it would have had. Before run(). Errors: a file that is damaged or of another
  // training.
  void resume(const std::filesystem::path& state);

  // Takes weights and normalisation from the recipe's init checkpoint, where it names one. run()
  // and replay() do it first; whoever wants its errors earlier calls it before. After resume() the
  // file is not asked for: the state holds all of it that still counts.
  void take_init();

  // Writes its checkpoints (state_files.h) into `folder`, which exists, and tells `observer`.
  // Every save_every steps, and when the observer asks to stop, the state of training is saved
  // there too (state_files.h). Called once.
  TrainingResult run(const std::filesystem::path& folder, TrainingObserver& observer);
  // Errors: training has no such step, from 1.
  void require_step(int64_t step) const;
  // Goes to step `step`, from 1, as run() would, but writes nothing, and takes that step apart.
  // progress: told how many steps are done. Called once, instead of run(). Errors: training has
  // fewer steps, is beyond this one already, or stops before it.
  StepReplay replay(int64_t step, const std::function<void(int64_t)>& progress);

  int64_t steps_done() const { return result_.steps; }
  Model& model() { return *model_; }
  const Optimizer& optimizer() const { return step_->optimizer(); }

  // What has been taken so far.
  MemoryUse memory() const;
  // Does once whatever takes memory in a run, and nothing else: on a planned device
  // (plan_memory).
  void rehearse();

 private:
  double under_validation_attack(Model& model, const AttackInput& images, int steps);
  static double now();  // seconds on the steady clock
  // Per epoch: what is left over in one has its turn in another.
  int64_t steps_per_epoch() const {
    return feed_->loader().batches_per_epoch() / recipe_.micro_batches;
  }
  // Images that go through the network together, on this rank.
  int64_t pass_images() const { return recipe_.batch_size / recipe_.micro_batches / ranks(); }

  // --- other ranks: trainer_ranks.cpp ---
  int rank() const { return comm_ != nullptr ? comm_->rank() : 0; }
  int ranks() const { return comm_ != nullptr ? comm_->size() : 1; }
  void join_ranks();
  // This rank's part of the first `count` images held out.
  std::span<const int64_t> held_out_part(int64_t count) const;
  int64_t probe_images() const { return std::min(recipe_.probe_samples, recipe_.hold_out); }
  void require_same_weights();
  double share_of_all(double hits, double images, const char* what);
  void share_statistics();
  std::vector<std::pair<std::string, Tensor>> state_of_ranks();
  void resume_rank(const SafetensorsFile& file);
  std::string exchange_text();
  bool run_epoch(int epoch, int64_t first_step);
  void run_step(uint32_t epoch);
  bool after_step();
  StepReplay take_apart(uint32_t epoch);   // the next step
  AttackInput next_input(uint32_t epoch);  // the feed's next batch
  bool record_steps(bool probe);
  std::vector<NamedView> state() const;
  std::string progress() const;  // the numbers beside it, as JSON
  void save_state_file();
  StepTotals take_totals();
  bool healthy_after_probe(StepRecord& record);
  void go_back();  // to the last healthy probe
  void finish_epoch(int epoch);
  void with_kept_weights(uint32_t epoch, const std::function<void()>& body);
  void estimate_statistics(uint32_t epoch);
  void validate_and_save(EpochRecord& record);
  // weights: what they are, where that is not plain.
  void save(const char* name, const EpochRecord& record, const std::string& weights);

  Exec& exec_;
  const Recipe recipe_;
  const Dataset& data_;
  RobustAccuracy measure_;
  std::filesystem::path folder_;
  TrainingObserver* observer_ = nullptr;
  Pool pool_;
  HoldOut split_;
  Comm* comm_ = nullptr;
  std::unique_ptr<Reducer> reducer_;  // where there are several ranks
  std::unique_ptr<Model> model_;
  TrainingMethod method_;
  std::unique_ptr<TrainingStep> step_;
  std::unique_ptr<Feed> feed_;
  StepSchedule schedule_;
  CollapseDetector collapse_;
  std::optional<Snapshot> healthy_;  // at the last healthy probe; there is one before any collapse
  double healthy_accuracy_ = 0;      // of that probe
  BestEpoch best_;
  AttackInput validation_, probe_;  // held-out images; the probe's are the first of them
  std::vector<BrokenImage> broken_held_out_, broken_of_epoch_;
  StepTotals epoch_totals_;
  double epoch_started_ = 0, record_started_ = 0;  // seconds on the steady clock
  TrainingResult result_;
  int64_t total_steps_ = 0;
  int64_t skipped_ = 0;                 // steps that changed nothing
  double started_ = 0;                  // seconds on the steady clock
  std::string resume_note_;             // told when training goes on
  std::optional<std::string> resumed_;  // what the observer had kept in the state
  bool init_taken_ = false;
};

}  // namespace ringfort
