// What a training run tells the world while it goes on. The trainer knows no files and no terminal:
// tools/ implements this (run folder, progress line); tests implement it to look.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "adversarial/phases.h"

namespace ringfort {

struct StepRecord {
  int64_t step = 0;  // steps done
  int64_t total_steps = 0;
  double epoch = 0;  // epochs done, with fraction
  double loss = 0;   // mean training loss since the last record
  double accuracy =
      0;  // share of training images classified rightly under the training attack, same span
  double lr = 0;
  double images_per_second = 0;
  double seconds = 0;  // since training began
  double eta_seconds = 0;
  PhaseSeconds phases = {};              // of a step, mean since the last record
  int64_t memory = 0;                    // bytes of device memory that tensors take
  std::optional<double> probe_accuracy;  // PGD-10 accuracy on the probe images, where the probe ran
};

struct EpochRecord {
  int epoch = 0;  // epochs done
  int64_t step = 0;
  double train_loss = 0;
  double train_accuracy = 0;  // under the training attack
  // Held-out, clean and under PGD; none where no images are held out.
  std::optional<double> clean_accuracy, robust_accuracy;
  double lr = 0;
  double images_per_second = 0;
  double seconds = 0;        // since training began
  bool best = false;         // highest held-out robust accuracy so far
  PhaseSeconds phases = {};  // of a step, mean over the epoch
  int64_t memory = 0;        // bytes of device memory that tensors take
};

class TrainingObserver {
 public:
  virtual ~TrainingObserver() = default;
  virtual void on_start(const std::string& /*header*/) {}
  virtual void on_step(const StepRecord&) {}
  virtual void on_epoch(const EpochRecord&) {}
  virtual void on_message(const std::string& /*sentence*/) {}  // said at once: collapse, fall-backs

  virtual void on_end(bool /*collapsed*/) {}  // training is over, and not only stopped

  // A state is about to be saved: what the observer needs to take up its records from here is kept
  // in it, and given back in place of on_start() when training goes on from that state.
  virtual std::string on_save() { return {}; }
  virtual void on_resume(const std::string& /*header*/, const std::string& /*saved*/,
                         int64_t /*step*/) {}
  // Asked after every step. True: training saves its state and returns.
  virtual bool stop_requested() { return false; }
};

}  // namespace ringfort
