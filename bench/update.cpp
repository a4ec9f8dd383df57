// update: one SGD step over the flat buffers of preact_resnet18.
#include "bench/bandwidth.h"
#include "engine/optimizer.h"
#include "kernels/device_memory.h"
#include "models/model.h"

namespace ringfort::bench {
namespace {

void report_update(Context& context, Peer* peer, bool copy) {
  ModelSpec spec;
  spec.name = "preact_resnet18";
  const auto model = make_model(spec, {.bfloat16_copy = copy, .device = context.exec.device()});
  ParamStore& params = model->params();
  initialize(context.exec, params, 1);
  params.master_changed(context.exec);
  const View gradient = params.flat_gradient();
  const std::vector<float> small(static_cast<size_t>(gradient.count()), 1e-6f);
  to_device(context.exec, gradient, small.data());
  Optimizer sgd(params, {});
  // Read: gradient, weight, momentum; written: weight, momentum and the bfloat16 copy.
  const double bytes = static_cast<double>(gradient.count()) * (5 * 4 + (copy ? 2 : 0));
  report_bandwidth(
      context, peer,
      {fmt::format("SGD, {:.1f}M parameters{}", static_cast<double>(params.parameter_count()) / 1e6,
                   copy ? ", bfloat16 copy" : ""),
       [&] { sgd.step(context.exec, {.lr = 1e-6}); }, bytes, copy ? "" : "sgd"},
      0.85);
}

}  // namespace

void run_update(Context& context) {
  const auto peer = context.peer.start("update.py", peer_machine(context));
  report_update(context, peer.get(), false);
  report_update(context, peer.get(), true);
}

}  // namespace ringfort::bench
