#include "adversarial/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "adversarial/input.h"
#include "engine/transfer.h"
#include "engine/version.h"

namespace ringfort {
namespace {

// The pixels of a batch on the host, and a view of them.
struct HostPixels {
  HostPixels(Exec& exec, const Tensor& pixels)
      : values(to_vector<float>(exec, pixels)),
        view{values.data(), Dtype::kFloat32, pixels.shape(), Layout::kChannelsLast} {}
  std::vector<float> values;
  View view;
};

// Images for the report: fooled ones and ones that held, evenly, in order.
std::vector<AdversarialExample> choose_examples(const Evaluation& evaluation, const View& x_nat,
                                                const View& x_adv, int count) {
  std::vector<AdversarialExample> chosen;
  const int64_t length = x_adv.shape.per_sample();
  int fooled = 0, held = 0;
  for (int64_t i = 0; i < evaluation.n && static_cast<int>(chosen.size()) < count; ++i) {
    const auto at = static_cast<size_t>(i);
    if (!evaluation.clean_correct[at]) continue;
    int& taken = evaluation.robust_correct[at] ? held : fooled;
    if (taken >= (count + 1) / 2) continue;
    ++taken;
    const float* nat = x_nat.as<const float>() + i * length;
    const float* adv = x_adv.as<const float>() + i * length;
    chosen.push_back({i, evaluation.labels[at], evaluation.clean_predictions[at],
                      evaluation.adversarial_predictions[at], std::vector<float>(nat, nat + length),
                      std::vector<float>(adv, adv + length)});
  }
  return chosen;
}

double share(const std::vector<uint8_t>& flags) {
  return static_cast<double>(std::count(flags.begin(), flags.end(), uint8_t{1})) /
         static_cast<double>(flags.size());
}

void describe_setting(Evaluation& e, const Model& model, const Dataset& test,
                      const EvaluateOptions& options) {
  const AttackOptions& a = options.attack;
  e.model = model.spec().name;
  e.width = model.spec().width;
  e.dataset = test.name;
  e.class_names = test.class_names;
  e.height = test.height;
  e.image_width = test.width;
  e.channels = test.channels;
  e.attack = options.attack_name;
  e.norm = to_string(a.threat.norm);
  e.eps = a.threat.eps;
  e.alpha = a.alpha;
  e.steps = a.steps;
  e.restarts = a.restarts;
  e.seed = a.seed;
  e.dtype = to_string(a.dtype);
  e.attack_bn = to_string(a.bn);
  e.norms = norms_in_words(model, a.norms);
  e.version = version();
}

}  // namespace

void verify_threat_model(const ThreatModel& threat, const View& x_adv, const View& x_nat) {
  const int64_t length = x_nat.shape.per_sample();
  // Each pixel is rounded to float32 once more: up to 2^-25 each, which adds up in L2.
  const double rounding =
      threat.norm == Norm::kL2 ? std::ldexp(std::sqrt(static_cast<double>(length)), -25) : 0;
  const double limit = threat.eps * (1 + 1e-6) + 1e-7 + rounding;
  for (int64_t n = 0; n < x_nat.shape.n; ++n) {
    double largest = 0, squares = 0;
    for (int64_t i = n * length; i < (n + 1) * length; ++i) {
      const float pixel = x_adv.as<const float>()[i];
      require(std::isfinite(pixel) && pixel >= threat.lower && pixel <= threat.upper,
              "attack: pixel {} of sample {} is {}, outside [{}, {}]", i - n * length, n, pixel,
              threat.lower, threat.upper);
      const double d = static_cast<double>(pixel) - static_cast<double>(x_nat.as<const float>()[i]);
      largest = std::max(largest, std::fabs(d));
      squares += d * d;
    }
    const double distance = threat.norm == Norm::kLinf ? largest : std::sqrt(squares);
    require(distance <= limit,
            "attack: sample {} is {:.9g} away from its image in {}, the threat model allows {:.9g}",
            n, distance, to_string(threat.norm), threat.eps);
  }
}

std::string norms_in_words(const Model& model, Norms norms) {
  if (!model.spec().auxiliary_norms) return {};
  return norms == Norms::kMain ? "main" : "auxiliary";
}

int64_t sample_count(const EvaluateOptions& options, const Dataset& test) {
  return options.n > 0 ? std::min(options.n, test.count) : test.count;
}

void judge(Exec& exec, Pool& pool, Model& model, const Tensor& x_nat, const Tensor& x_adv,
           const EvaluateOptions& options, Evaluation& e) {
  const HostPixels nat(exec, x_nat), adv(exec, x_adv);
  verify_threat_model(options.attack.threat, adv.view, nat.view);
  e.clean_predictions = predict(exec, pool, model, x_nat, options.batch_size, options.attack.norms);
  e.adversarial_predictions =
      predict(exec, pool, model, x_adv, options.batch_size, options.attack.norms);
  e.clean_correct.clear();
  e.robust_correct.clear();
  for (size_t i = 0; i < e.labels.size(); ++i) {
    const bool clean = e.clean_predictions[i] == e.labels[i];
    e.clean_correct.push_back(clean);
    e.robust_correct.push_back(clean && e.adversarial_predictions[i] == e.labels[i]);
  }
  e.clean_accuracy = share(e.clean_correct);
  e.robust_accuracy = share(e.robust_correct);
  e.examples = choose_examples(e, nat.view, adv.view, options.examples);
}

Evaluation evaluate(Exec& exec, Pool& pool, Model& model, const Dataset& test,
                    const EvaluateOptions& options) {
  require_consistent(test);
  const ModelSpec& spec = model.spec();
  require(spec.height == test.height && spec.image_width == test.width &&
              spec.channels == test.channels &&
              spec.classes == static_cast<int64_t>(test.class_names.size()),
          "evaluate: the model takes {} x {} x {} images of {} classes; {} has {} x {} x {} and {}",
          spec.height, spec.image_width, spec.channels, spec.classes, test.name, test.height,
          test.width, test.channels, test.class_names.size());
  const auto began = std::chrono::steady_clock::now();
  Evaluation e;
  describe_setting(e, model, test, options);
  e.n = sample_count(options, test);
  std::vector<int64_t> samples(static_cast<size_t>(e.n));
  std::iota(samples.begin(), samples.end(), 0);
  std::vector<BrokenImage> broken;
  const AttackInput input = make_input(exec, pool, test, samples, &broken);
  if (!broken.empty() && options.message) options.message(describe(broken));
  e.labels = to_vector<int32_t>(exec, input.labels);
  const auto progress = [&](int64_t done) {
    if (options.progress) options.progress(done, e.n);
  };
  const Tensor x_adv =
      options.own_attack
          ? options.own_attack(input)
          : attack(exec, pool, model, input, options.attack, options.batch_size, progress).x_adv;
  require(x_adv.shape() == input.x_nat.shape() && x_adv.dtype() == Dtype::kFloat32,
          "evaluate: the attack '{}' gave {} images {}, expected are float32 images {}",
          options.attack_name, to_string(x_adv.dtype()), to_string(x_adv.shape()),
          to_string(input.x_nat.shape()));
  judge(exec, pool, model, input.x_nat, x_adv, options, e);
  e.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return e;
}

}  // namespace ringfort
