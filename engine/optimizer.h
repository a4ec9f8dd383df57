// Optimizers: vector operations on the flat buffers of a ParamStore. State lives in flat buffers of
// the same layout.
#pragma once

#include "engine/params.h"
#include "engine/state_file.h"

namespace ringfort {

enum class OptimizerKind {
  kSgd,    // with momentum, as PyTorch defines it
  kLars,   // You et al. 2017
  kAdam,   // Kingma and Ba 2015; weight decay as a part of the gradient
  kAdamW,  // Loshchilov and Hutter 2019
  kLamb,   // You et al. 2020
};

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kSgd;
  bool nesterov = false;  // SGD and LARS
  double weight_decay = 5e-4;
  bool decay_all = true;  // also norm parameters and biases; false: filters and matrices only
  double clip_grad = 0;   // the longest the whole gradient may be, else it is scaled; 0: any length
  // Adam, AdamW, LAMB
  double second_beta = 0.999;
  double eps = 1e-8;  // and LARS
  bool bias_correction = true;
  // LARS and LAMB: which sources differ in
  double trust_coefficient = 0.001;  // LARS
  bool trust_all = false;  // trust ratios also for norm parameters and biases; false: theirs is 1
  double trust_clip = 0;   // LAMB: what a norm of weights counts at most; 0: as it is
  // Keep an exponential moving average of the weights.
  bool average = false;
};

// What the caller decides anew for each update.
struct UpdateOptions {
  double lr = 0;
  double momentum = 0.9;  // beta1 of Adam, AdamW and LAMB
  double averaging = 0;   // a in average <- a average + (1 - a) w; 0: the average is w
};

struct GradientSize {
  double norm = 0;     // over all parameters, before it is clipped
  bool counts = true;  // false: it is not finite, or too long for the optimizer's state
};

class Optimizer {
 public:
  // An average begins at 0 until restart_average().
  Optimizer(ParamStore& params, const OptimizerOptions& options);

  // One update from the flat gradient. A gradient that is not finite, or a loss (one number on the
  // device) that is not, changes nothing. The compute copy, where there is one, follows.
  // from: the weights to start from where the flat master, at which the gradient was formed, has
  // been moved away from them for it; the master then becomes the new weights all the same.
  void step(Exec& exec, const UpdateOptions& update, const View& loss = {}, const View& from = {});

  // The same in two parts, for a step that is recorded: what changes is written to the device, and
  // the update reads it there.
  void set(Exec& exec, const UpdateOptions& update);
  void step(Exec& exec, const View& loss = {}, const View& from = {});

  // Of the last step: GradientCheck (kernels/update.h), on the device.
  View check() const { return check_; }
  // The averaged weights, laid out as the master; no data where none are kept.
  View average() const { return average_ ? average_.view() : View{}; }

  // The average is the weights as they now are: for whoever has written to them.
  void restart_average(Exec& exec);

  // All that it remembers between steps.
  std::vector<NamedView> state() const;
  int64_t bytes_reserved() const { return pool_.bytes_reserved(); }

  // What a step would find of the gradient as it now is. For a look at it: waits for the device,
  // and no step may follow without a gradient of its own.
  GradientSize measure_gradient(Exec& exec, const View& loss = {});

 private:
  void take_check(Exec& exec, const View& loss);
  bool layer_wise() const {
    return options_.kind == OptimizerKind::kLars || options_.kind == OptimizerKind::kLamb;
  }
  bool has_moments() const {
    return options_.kind != OptimizerKind::kSgd && options_.kind != OptimizerKind::kLars;
  }

  ParamStore& params_;
  OptimizerOptions options_;
  Pool pool_;
  Tensor first_, second_;  // momentum, or Adam's two means
  Tensor average_;
  Tensor means_;          // MeanWeights, of methods that have moments
  Tensor rates_, check_;  // StepRates, GradientCheck
  // Per segment, float64: whether it decays; whether its trust ratio is its own; squared norms of
  // its gradient (LAMB: of its direction) and its weights; its trust ratio.
  Tensor decay_, adapted_, squares_, w_squares_, ratio_;
};

}  // namespace ringfort
