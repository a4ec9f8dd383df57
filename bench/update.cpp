// update: one step of each optimizer over the flat buffers of preact_resnet18.
#include "bench/bandwidth.h"
#include "engine/optimizer.h"
#include "kernels/device_memory.h"
#include "models/model.h"

namespace ringfort::bench {
namespace {

constexpr double kGpuGoal = 0.9;

// floats: numbers of the flat buffers' length that the launches of one step read and write.
struct Update {
  const char* name;
  OptimizerOptions options;
  int floats;
  double goal;  // share of copy bandwidth, on a CPU
  const char* peer = "";
};

// The norm of the gradient reads it once; then an update reads gradient, weights and state, and
// writes weights and state. LARS takes the norm of the weights before; LAMB moves its moments,
// takes its norms and moves its weights in three launches.
std::vector<Update> updates() {
  return {
      {"SGD", {}, 1 + 3 + 2, 0.85, "sgd"},
      {"SGD, average", {.average = true}, 1 + 4 + 3, 0.7},
      {"AdamW", {.kind = OptimizerKind::kAdamW}, 1 + 4 + 3, 0.7},
      {"LARS", {.kind = OptimizerKind::kLars, .decay_all = false}, 1 + 1 + 3 + 2, 0.7},
      {"LAMB", {.kind = OptimizerKind::kLamb, .decay_all = false}, 1 + (4 + 2) + 3 + (3 + 1), 0.7}};
}

void report_update(Context& context, Peer* peer, const Update& update, bool copy) {
  ModelSpec spec;
  spec.name = "preact_resnet18";
  const auto model = make_model(spec, {.bfloat16_copy = copy, .device = context.exec.device()});
  ParamStore& params = model->params();
  initialize(context.exec, params, 1);
  params.master_changed(context.exec);
  const View gradient = params.flat_gradient();
  const std::vector<float> small(static_cast<size_t>(gradient.count()), 1e-6f);
  to_device(context.exec, gradient, small.data());
  Optimizer optimizer(params, update.options);
  const double bytes = static_cast<double>(gradient.count()) * (update.floats * 4 + (copy ? 2 : 0));
  report_bandwidth(
      context, peer,
      {fmt::format("{}, {:.1f}M parameters{}", update.name,
                   static_cast<double>(params.parameter_count()) / 1e6,
                   copy ? ", bfloat16 copy" : ""),
       [&] { optimizer.step(context.exec, {.lr = 1e-6}); }, bytes, copy ? "" : update.peer},
      context.on_cpu() ? update.goal : kGpuGoal);
}

}  // namespace

void run_update(Context& context) {
  const auto peer = context.peer.start("update.py", peer_machine(context));
  for (const Update& update : updates()) report_update(context, peer.get(), update, false);
  report_update(context, peer.get(), updates().front(), true);
}

}  // namespace ringfort::bench
