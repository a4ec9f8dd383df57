// Attacks: find x_adv inside the threat model around x_nat that the model gets wrong. An attack is
// a composition:
//
//   threat model (norm, eps, box) + start + objective + step rule + schedule + stop rule
//
// and a paper's attack is a preset of parts. Rules that hold for all of them (attacks.md 0): pixels
// in [0, 1], the SUM of the losses is differentiated, with respect to the input only; weights,
// gradients and running statistics stay as they are bit for bit; random numbers are keyed by the
// sample's index in its data set, so results do not depend on batches.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "adversarial/threat_model.h"
#include "engine/graph.h"
#include "models/model.h"

namespace ringfort {

enum class AttackStart {
  kNatural,  // x_nat itself
  kRandom,   // Linf: uniform in the ball; L2: Gaussian direction, radius uniform in (0, eps)
  kNearby,   // Linf: x_nat + 0.001 N(0, 1), TRADES' own; at x_nat its objective has no gradient
};

// Maximised.
enum class AttackObjective {
  kCrossEntropy,
  kDivergence,  // KL(p || q), p the probabilities at x_nat, which are constant (Zhang et al. 2019)
};

enum class StopRule {
  kAllSteps,   // training: every sample takes every step
  kOnSuccess,  // evaluation: a sample that is misclassified leaves the batch
};

// How batch norm behaves while the attack runs (the table in training.md 0.2).
enum class AttackBn {
  kEval,        // running statistics (TRADES, robustness): the folded, fastest path
  kTrain,       // batch statistics, running ones left alone
  kTrainTrack,  // batch statistics that also move the running ones (fast_adversarial,
                // robust_overfitting)
};

struct AttackOptions {
  ThreatModel threat;
  AttackStart start = AttackStart::kRandom;
  AttackObjective objective = AttackObjective::kCrossEntropy;
  double alpha = 2.0 / 255;  // step size, constant over the schedule of `steps` steps
  int steps = 10;
  int restarts =
      1;  // only the first starts at x_nat where start is kNatural; the others are random
  StopRule stop = StopRule::kAllSteps;
  AttackBn bn = AttackBn::kEval;
  Norms norms = Norms::kMain;     // that x_adv goes through
  Dtype dtype = Dtype::kFloat32;  // of the network during the attack; pixels stay float32
  uint64_t seed = 0;
};

// Presets. fgsm: Goodfellow et al. 2015. fgsm_rs: Wong et al. 2020, alpha 1.25 eps, run in train
// mode with tracking by its source. pgd: Madry et al. 2018. trades: Zhang et al. 2019, for training
// only; Linf, in L2 with a random start.
AttackOptions fgsm(const ThreatModel& threat);
AttackOptions fgsm_rs(const ThreatModel& threat);
AttackOptions pgd(const ThreatModel& threat, int steps, double alpha);
AttackOptions trades(const ThreatModel& threat, int steps, double alpha);

// The attack that an evaluation knows by this name: "fgsm", "fgsm-rs", or "pgd" with so many steps
// of eps / 4 (2/255 at 8/255: the protocol of Fast AT). On running statistics, so that a sample's
// result does not depend on its batch; it stops on success. Errors: an unknown name lists the known
// ones; more than one step of fgsm or fgsm-rs.
AttackOptions evaluation_attack(const std::string& name, const ThreatModel& threat, int steps);

// The same as sentences for headers and reports: "PGD-10, alpha 2.00/255, ...".
std::string describe(const AttackOptions& attack);
std::string_view to_string(AttackStart start);
std::string_view to_string(AttackBn bn);

// A batch under attack, on the device. Pixels float32 (N, H, W, C).
struct AttackInput {
  Tensor x_nat;
  Tensor labels;         // (N) int32
  Tensor samples;        // (N) int64, data-set indices: the keys of random starts
  uint32_t epoch = 0;    // varies random starts between epochs of training
  Mixture mixture = {};  // training only
};

struct AttackResult {
  Tensor x_adv;
  std::vector<uint8_t>
      fooled;  // N, from a forward pass on the final x_adv in the reference precision (verify)
  std::vector<int32_t> predictions;        // N, of the same pass
  std::vector<int32_t> clean_predictions;  // N, on x_nat
};

// Predictions of the model on pixels by running statistics, in the master's precision. Errors:
// logits that are not finite, which name no class.
std::vector<int32_t> predict(Exec& exec, Pool& pool, Model& model, const Tensor& pixels,
                             int64_t batch_size = 128, Norms norms = Norms::kMain);

// The inner maximisation of training: every sample, one restart, all steps, nothing verified. Runs
// the K steps as one Graph per batch size, on buffers that keep their addresses.
class TrainingAttack {
 public:
  // pool: of this attack alone, because its graphs write to blocks that are free in it.
  TrainingAttack(Exec& exec, Pool& pool, Model& model, AttackOptions options);
  TrainingAttack(const TrainingAttack&) = delete;  // its graphs hold its address
  TrainingAttack& operator=(const TrainingAttack&) = delete;

  // Its own copies of the batch, and what it has found: at the same addresses after every call with
  // a batch of this size.
  struct Attacked {
    Tensor x_nat, x_adv, labels;
    Mixture mixture;
  };
  Attacked run(const AttackInput& input);

  const AttackOptions& options() const { return options_; }
  // Weight gradients formed by attack passes so far: 0, always.
  int64_t weight_gradients() const { return weight_gradients_; }
  // Kernels that one attack on a batch of this many samples launches, as recorded; 0 where it is
  // not.
  int64_t kernels(int64_t batch) const;

 private:
  struct Buffers;
  Buffers& buffers_for(const Shape& shape, bool mixed);
  void run_steps(Buffers& buffers);

  Exec& exec_;
  Pool& pool_;
  Model& model_;
  AttackOptions options_;
  int64_t weight_gradients_ = 0;
  std::vector<std::shared_ptr<Buffers>> buffers_;
};

// The attack of an evaluation, on any number of samples: `batch_size` slots work side by side; a
// slot whose sample is won or has used up its restarts takes the next sample, so the batch stays
// full and keeps its shape. The best x_adv per sample is kept (a success beats any failure, among
// failures the largest objective wins) and verified at the end by a clean forward pass. progress
// (may be empty) is told how many samples are done.
AttackResult attack(Exec& exec, Pool& pool, Model& model, const AttackInput& input,
                    const AttackOptions& options, int64_t batch_size = 128,
                    const std::function<void(int64_t)>& progress = {});

}  // namespace ringfort
