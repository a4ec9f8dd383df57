// parity: the whole networks beside PyTorch. From the same weights (our checkpoint, read by
// tools/peer/parity.py), the same pixels and labels: logits, and the gradient of the summed
// cross-entropy with respect to the pixels, by running and by batch statistics.
#include <unistd.h>

#include <span>

#include "adversarial/attack_steps.h"
#include "bench/bench.h"
#include "bench/timing.h"
#include "engine/safetensors.h"
#include "models/checkpoint.h"

namespace ringfort::bench {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBatch = 16;

// Removed with everything in it.
struct TemporaryFolder {
  TemporaryFolder()
      : path(fs::temp_directory_path() / fmt::format("ringfort-parity-{}", ::getpid())) {
    fs::create_directories(path);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  fs::path path;
};

NamedArray array(std::string name, const Tensor& tensor) {
  const Shape& s = tensor.shape();
  const auto bytes =
      std::span(tensor.as<const std::byte>(), static_cast<size_t>(tensor.view().bytes()));
  return {std::move(name), "F32", {s.n, s.h, s.w, s.c}, bytes};
}

std::unique_ptr<Model> make_random_model(Exec& exec, const std::string& name) {
  ModelSpec spec;
  spec.name = name;
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

void report_model(Context& context, Peer& peer, const fs::path& folder, const std::string& name) {
  Exec& exec = context.exec;
  Pool pool;
  const auto model = make_random_model(exec, name);
  const ModelSpec& spec = model->spec();
  const Shape shape{kBatch, spec.height, spec.image_width, spec.channels};
  const Tensor x = random_tensor(exec, pool, shape, Dtype::kFloat32, Layout::kChannelsLast, 0, 1);
  const Tensor labels(pool, vector_shape(kBatch), Dtype::kInt32);
  for (int64_t i = 0; i < kBatch; ++i) labels.as<int32_t>()[i] = static_cast<int32_t>(i % 10);
  settle_statistics(exec, pool, *model, x);
  const fs::path weights = folder / fmt::format("{}.safetensors", name);
  save_checkpoint(weights, *model, {});

  for (const AttackBn bn : {AttackBn::kEval, AttackBn::kTrain}) {
    if (bn == AttackBn::kTrain && model->params().statistics().empty()) continue;  // no norms
    AttackOptions attack;
    attack.bn = bn;
    const Tensor logits = logits_of(exec, pool, *model, x, attack_pass(attack));
    const Tensor dx = input_gradient(exec, pool, *model, attack, x, {labels}).dx;
    const fs::path ours = folder / fmt::format("{}-{}.safetensors", name, to_string(bn));
    save_safetensors(ours, std::vector{array("x", x), array("logits", logits), array("dx", dx)},
                     {});
    const nlohmann::json errors =
        peer.ask(fmt::format("{} {} {}", weights.string(), ours.string(), to_string(bn)));
    const auto add = [&](const char* what, const char* key, const char* unit, const char* limit) {
      context.report.add({fmt::format("{} {}, {}", spec.name, to_string(bn), what),
                          errors.at("ours").at(key).get<double>(),
                          unit,
                          {},
                          fmt::format("{}PyTorch's own float32 {:.1e}", limit,
                                      errors.at("torch").at(key).get<double>())});
    };
    add("logits", "logits", "largest", "limit 1e-4; ");
    add("dx", "gradient", "median", "limit 1e-3; ");
    add("dx", "worst_gradient", "largest", "");
  }
}

}  // namespace

void run_parity(Context& context) {
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
  const TemporaryFolder folder;
  for (const ModelEntry& model : model_registry())
    report_model(context, *peer, folder.path, std::string(model.name));
}

}  // namespace ringfort::bench
