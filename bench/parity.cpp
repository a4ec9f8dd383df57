// parity and weights: the whole networks beside PyTorch. From the same weights (exported, and
// loaded strictly by tools/peer/parity.py), the same pixels and labels: logits, and the gradient of
// the summed cross-entropy with respect to the pixels, by running and by batch statistics. parity
// has full-size networks under our names, weights small ones as every naming of `ringfort export`.
#include <cmath>
#include <functional>
#include <span>

#include "adversarial/attack_steps.h"
#include "bench/bench.h"
#include "bench/temporary_folder.h"
#include "bench/timing.h"
#include "engine/safetensors.h"
#include "kernels/device_memory.h"
#include "models/checkpoint.h"
#include "models/naming.h"

namespace ringfort::bench {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBatch = 16;

NamedArray array(std::string name, const Tensor& tensor) {
  const Shape& s = tensor.shape();
  const auto bytes =
      std::span(tensor.as<const std::byte>(), static_cast<size_t>(tensor.view().bytes()));
  return {std::move(name), "F32", {s.n, s.h, s.w, s.c}, bytes};
}

// A classifier that begins with zeros lets no gradient through; it gets weights.
void fill_zero_classifier(Exec& exec, Pool& pool, ParamStore& params) {
  for (size_t i = 0; i < params.segments().size(); ++i) {
    const Segment& segment = params.segments()[i];
    if (segment.kind != ParamKind::kLinearWeight || segment.init != Init::kZero) continue;
    const float bound = 1 / std::sqrt(static_cast<float>(segment.shape.per_sample()));
    const Tensor weights = random_tensor(exec, pool, segment.shape, Dtype::kFloat32,
                                         Layout::kChannelsLast, -bound, bound);
    copy_view(exec, params.master(static_cast<ParamId>(i)), weights);
  }
  params.master_changed(exec);
}

// width: 0 for the model's own default.
std::unique_ptr<Model> make_random_model(Exec& exec, Pool& pool, const std::string& name,
                                         int width) {
  ModelSpec spec;
  spec.name = name;
  spec.width = width;
  spec.mean = {0.4914f, 0.4822f, 0.4465f};
  spec.std = {0.2470f, 0.2435f, 0.2616f};
  if (name == "resnet50") spec.height = spec.image_width = 64;
  if (name == "cnn_small" || name == "mnist_net") {
    spec.height = spec.image_width = 28;
    spec.channels = 1;
    spec.mean = {0.2860f};
    spec.std = {0.3530f};
  }
  auto model = make_model(spec);
  ParamStore& params = model->params();
  initialize(exec, params, 3);
  fill_zero_classifier(exec, pool, params);
  return model;
}

Tensor logits_of(Exec& exec, Pool& pool, Model& model, const Tensor& x, const PassOptions& pass) {
  Pass p(exec, pool, model.params(), pass);
  return model.forward(p, p.input(x)).value;
}

// Brings the running statistics near those of the pixels, so that logits are of the usual size.
void settle_statistics(Exec& exec, Pool& pool, Model& model, const Tensor& x) {
  if (model.params().statistics().empty()) return;
  for (int pass = 0; pass < 20; ++pass)
    logits_of(exec, pool, model, x, {Wrt::kNothing, BnMode::kBatchAndUpdate});
}

void report_model(Context& context, Peer& peer, const fs::path& folder, const std::string& name,
                  int width, const Naming& naming) {
  Exec& exec = context.exec;
  Pool pool;
  const auto model = make_random_model(exec, pool, name, width);
  const ModelSpec& spec = model->spec();
  const Shape shape{kBatch, spec.height, spec.image_width, spec.channels};
  const Tensor x = random_tensor(exec, pool, shape, Dtype::kFloat32, Layout::kChannelsLast, 0, 1);
  const Tensor labels(pool, vector_shape(kBatch), Dtype::kInt32);
  for (int64_t i = 0; i < kBatch; ++i) labels.as<int32_t>()[i] = static_cast<int32_t>(i % 10);
  settle_statistics(exec, pool, *model, x);
  const fs::path weights = folder / fmt::format("{}.safetensors", name);
  save_safetensors(weights, state_dict(*model, naming).arrays, describe(spec));

  for (const AttackBn bn : {AttackBn::kEval, AttackBn::kTrain}) {
    if (bn == AttackBn::kTrain && model->params().statistics().empty()) continue;  // no norms
    AttackOptions attack;
    attack.bn = bn;
    const Tensor logits = logits_of(exec, pool, *model, x, attack_pass(attack));
    const Tensor dx = input_gradient(exec, pool, *model, attack, x, {labels}).dx;
    const fs::path ours = folder / fmt::format("{}-{}.safetensors", name, to_string(bn));
    save_safetensors(ours, std::vector{array("x", x), array("logits", logits), array("dx", dx)},
                     {});
    const nlohmann::json errors = peer.ask(
        fmt::format("{} {} {} {}", weights.string(), naming.name, ours.string(), to_string(bn)));
    const auto add = [&](const char* what, const char* key, const char* unit,
                         std::string_view limit) {
      context.report.add(
          {fmt::format("{}{} {}, {}", spec.name,
                       width == 0 ? "" : fmt::format(" as {}", naming.name), to_string(bn), what),
           errors.at("ours").at(key).get<double>(),
           unit,
           {},
           fmt::format("{}PyTorch's own float32 {:.1e}", limit,
                       errors.at("torch").at(key).get<double>())});
    };
    add("logits", "logits", "largest", "limit 1e-4; ");
    add("dx", "gradient", "median", "limit 1e-3; ");
    // Only of one that is beyond the limit.
    const std::string piece =
        errors.contains("nearest")
            ? fmt::format("{:.1e} once {} of the signs nearest to 0 before ReLUs are turned; ",
                          errors.at("nearest").at("left").get<double>(),
                          errors.at("nearest").at("turned").get<int>())
            : "";
    add("dx", "worst_gradient", "largest", piece);
  }
}

void run_with_peer(Context& context,
                   const std::function<void(Peer& peer, const fs::path& folder)>& run) {
  const auto peer =
      context.peer.start("parity.py", {"--threads", std::to_string(context.exec.threads())});
  if (peer == nullptr) {
    context.report.say(PeerPython::kMissing);
    return;
  }
  context.report.say("against PyTorch " + peer->torch_version() +
                     " in float64: absolute errors of logits, relative errors of an image's dx.");
  context.report.say(
      "Where rounding turns the sign of a value before a ReLU, that image's dx is another one's: "
      "the largest error shows it; in train mode the batch's statistics pass it on.");
  const TemporaryFolder folder(fs::temp_directory_path());
  run(*peer, folder.path);
}

}  // namespace

void run_parity(Context& context) {
  run_with_peer(context, [&](Peer& peer, const fs::path& folder) {
    for (const ModelEntry& model : model_registry())
      report_model(context, peer, folder, std::string(model.name), 0, namings().front());
  });
}

void run_weights(Context& context) {
  constexpr int kWidth = 8;
  run_with_peer(context, [&](Peer& peer, const fs::path& folder) {
    for (const ModelEntry& model : model_registry())
      for (const Naming& naming : namings())
        if (naming.defines(model.name))
          report_model(context, peer, folder, std::string(model.name), kWidth, naming);
  });
}

}  // namespace ringfort::bench
