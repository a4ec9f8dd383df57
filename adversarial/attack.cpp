#include "adversarial/attack.h"

#include <algorithm>
#include <cmath>

#include "adversarial/attack_steps.h"
#include "engine/transfer.h"

namespace ringfort {

AttackOptions fgsm(const ThreatModel& threat) {
  AttackOptions options;
  options.threat = threat;
  options.start = AttackStart::kNatural;
  options.alpha = threat.eps;
  options.steps = 1;
  return options;
}

AttackOptions fgsm_rs(const ThreatModel& threat) {
  AttackOptions options;
  options.threat = threat;
  options.alpha = 1.25 * threat.eps;
  options.steps = 1;
  options.bn = AttackBn::kTrainTrack;
  return options;
}

AttackOptions pgd(const ThreatModel& threat, int steps, double alpha) {
  AttackOptions options;
  options.threat = threat;
  options.steps = steps;
  options.alpha = alpha;
  return options;
}

AttackOptions trades(const ThreatModel& threat, int steps, double alpha) {
  AttackOptions options = pgd(threat, steps, alpha);
  options.objective = AttackObjective::kDivergence;
  if (threat.norm == Norm::kLinf) options.start = AttackStart::kNearby;
  return options;
}

std::string_view to_string(AttackStart start) {
  switch (start) {
    case AttackStart::kNatural:
      return "natural";
    case AttackStart::kRandom:
      return "random";
    case AttackStart::kNearby:
      return "nearby";
  }
  return "unknown";
}

AttackOptions evaluation_attack(const std::string& name, const ThreatModel& threat, int steps) {
  require(name == "pgd" || name == "fgsm" || name == "fgsm-rs",
          "there is no attack '{}'; known are pgd, fgsm, fgsm-rs", name);
  require(name == "pgd" || steps == 1, "{} takes one step, not {}; use pgd", name, steps);
  AttackOptions options = name == "fgsm"      ? fgsm(threat)
                          : name == "fgsm-rs" ? fgsm_rs(threat)
                                              : pgd(threat, steps, threat.eps / 4);
  options.stop = StopRule::kOnSuccess;
  options.bn = AttackBn::kEval;
  return options;
}

std::string_view to_string(AttackBn bn) {
  switch (bn) {
    case AttackBn::kEval:
      return "eval";
    case AttackBn::kTrain:
      return "train";
    case AttackBn::kTrainTrack:
      return "train-track";
  }
  return "unknown";
}

std::string describe(const AttackOptions& a) {
  const bool random = a.start == AttackStart::kRandom;
  const std::string name = a.steps > 1 ? fmt::format("PGD-{}", a.steps)
                           : random    ? "FGSM-RS"
                                       : "FGSM";
  return fmt::format(
      "{}{}, alpha {:.2f}/255, {} ball of {:.2f}/255, {} start, {} restart{}, batch norm {}, {}",
      name, a.objective == AttackObjective::kDivergence ? " on the KL divergence" : "",
      255 * a.alpha, to_string(a.threat.norm), 255 * a.threat.eps, to_string(a.start), a.restarts,
      a.restarts == 1 ? "" : "s", to_string(a.bn), to_string(a.dtype));
}

namespace {

// The largest of NaN logits is class 0, which would count as an answer.
template <class T>
void require_finite(Exec& exec, const Tensor& losses, int64_t first) {
  const auto values = to_vector<T>(exec, losses);
  for (size_t i = 0; i < values.size(); ++i)
    require(std::isfinite(values[i]),
            "the network gives no prediction for image {}: its logits are not finite; take a "
            "checkpoint from before the training diverged",
            first + static_cast<int64_t>(i));
}

}  // namespace

std::vector<int32_t> predict(Exec& exec, Pool& pool, Model& model, const Tensor& pixels,
                             int64_t batch_size, Norms norms) {
  PassOptions options;
  options.norms = norms;
  options.dtype = model.params().master_dtype();
  std::vector<int32_t> predictions;
  const int64_t count = pixels.shape().n, n = std::min(batch_size, count);
  for (int64_t next = 0; next < count; next += n) {
    // A last batch that is not full begins earlier, so that there is one shape only.
    const int64_t first = std::min(next, count - n);
    Pass p(exec, pool, model.params(), options);
    const Var logits = model.forward(p, p.input(pixels.samples(first, n)));
    // The class of the largest logit, by the one place that decides ties; labels do not matter to
    // it.
    const Tensor labels = p.empty(vector_shape(n), Dtype::kInt32);
    clear(exec, labels);
    const Loss loss = cross_entropy(p, logits, labels, 1.0);
    if (loss.loss.dtype() == Dtype::kFloat64)
      require_finite<double>(exec, loss.loss, first);
    else
      require_finite<float>(exec, loss.loss, first);
    const auto part = to_vector<int32_t>(exec, loss.prediction);
    predictions.insert(predictions.end(), part.begin() + (next - first), part.end());
  }
  return predictions;
}

// --- training ---

struct TrainingAttack::Buffers {
  Shape shape;
  Tensor x_nat, x_adv, labels, samples;
  Mixture mixture;
  Tensor epoch;  // one number, read by the start when it runs
  std::unique_ptr<Graph> graph;
};

TrainingAttack::TrainingAttack(Exec& exec, Pool& pool, Model& model, AttackOptions options)
    : exec_(exec), pool_(pool), model_(model), options_(options) {
  require(options.stop == StopRule::kAllSteps && options.restarts == 1,
          "training attack: takes all steps of one restart; early stop and restarts belong to "
          "evaluation");
}

TrainingAttack::Buffers& TrainingAttack::buffers_for(const Shape& shape, bool mixed) {
  for (const auto& buffers : buffers_)
    if (buffers->shape == shape && static_cast<bool>(buffers->mixture.labels) == mixed)
      return *buffers;
  auto buffers = std::make_shared<Buffers>();
  buffers->shape = shape;
  buffers->x_nat = Tensor(pool_, shape, Dtype::kFloat32);
  buffers->x_adv = Tensor(pool_, shape, Dtype::kFloat32);
  buffers->labels = Tensor(pool_, vector_shape(shape.n), Dtype::kInt32);
  buffers->samples = Tensor(pool_, vector_shape(shape.n), Dtype::kInt64);
  if (mixed) buffers->mixture = empty_mixture(pool_, shape.n);
  buffers->epoch = Tensor(pool_, vector_shape(1), Dtype::kInt32);
  // Weights change between replays: a replay prepares and folds them itself.
  GraphOptions graph;
  graph.before_capture = [this] { model_.params().cache().forget(); };
  graph.pool = &pool_;
  buffers->graph = std::make_unique<Graph>(
      exec_, "training attack", [this, at = buffers.get()] { run_steps(*at); }, graph);
  buffers_.push_back(std::move(buffers));
  return *buffers_.back();
}

int64_t TrainingAttack::kernels(int64_t batch) const {
  for (const auto& buffers : buffers_)
    if (buffers->shape.n == batch) return buffers->graph->kernels();
  return 0;
}

void TrainingAttack::run_steps(Buffers& at) {
  RandomKey key = attack_key(options_, 0);
  key.epoch_at = at.epoch.as<uint32_t>();
  take_start(exec_, options_, options_.start, at.x_adv, at.x_nat, key, at.samples.as<int64_t>());
  Tensor natural;
  if (options_.objective == AttackObjective::kDivergence)
    natural = natural_logits(exec_, pool_, model_, options_, at.x_nat);
  for (int step = 0; step < options_.steps; ++step) {
    const InputGradient g =
        input_gradient(exec_, pool_, model_, options_, at.x_adv, {at.labels, natural, at.mixture});
    take_step(exec_, options_, at.x_adv, g.dx, at.x_nat);
    weight_gradients_ += g.weight_gradients;
  }
}

TrainingAttack::Attacked TrainingAttack::run(const AttackInput& input) {
  const Shape shape = input.x_nat.shape();
  require_valid(options_, input);
  Buffers& at = buffers_for(shape, static_cast<bool>(input.mixture.labels));
  copy_view(exec_, at.x_nat, input.x_nat);
  copy_view(exec_, at.labels, input.labels);
  copy_view(exec_, at.samples, input.samples);
  copy_mixture(exec_, at.mixture, input.mixture);
  to_device(exec_, at.epoch, &input.epoch);
  at.graph->run(shape);
  return {at.x_nat, at.x_adv, at.labels, at.mixture};
}

}  // namespace ringfort
