// fused-pgd: the attack's own kernels, which do in one pass what a framework does in several. Two
// sizes: one that a cache may hold, one that only memory does.
#include "bench/bandwidth.h"
#include "bench/timing.h"
#include "kernels/attack.h"
#include "kernels/loss.h"

namespace ringfort::bench {
namespace {

constexpr double kGoal = 0.85;         // of the loss, and of all on a CPU
constexpr double kGpuStepsGoal = 0.9;  // of starts and steps
constexpr float kEps = 8.0f / 255, kAlpha = 2.0f / 255;

void report_steps(Context& context, Peer* peer, int64_t images) {
  Exec& exec = context.exec;
  Pool pool(exec.device());
  const Shape shape{images, 32, 32, 3};
  const auto pixels = [&](float low) {
    return random_tensor(exec, pool, shape, Dtype::kFloat32, Layout::kChannelsLast, low, 1);
  };
  const Tensor nat = pixels(0), adv = pixels(0), grad = pixels(-1);
  const Tensor numbers = sample_numbers(exec, pool, images);
  const auto* samples = numbers.as<const int64_t>();
  const LinfProjection project{kEps, 0, 1};
  const RandomKey key{1, Purpose::kAttackStart, 0};
  const double array = static_cast<double>(nat.view().bytes());

  const auto report = [&](const char* name, double arrays, std::function<void()> run) {
    report_bandwidth(context, peer,
                     {fmt::format("{}, {} images", name, images), std::move(run), arrays * array,
                      fmt::format("{} {}", name, images)},
                     context.on_cpu() ? kGoal : kGpuStepsGoal);
  };
  report("linf_start", 2, [&] { linf_start(exec, adv, nat, project, key, samples); });
  report("linf_step", 4, [&] { linf_step(exec, adv, grad, nat, {kAlpha, project}); });
  report("l2_start", 2, [&] { l2_start(exec, adv, nat, 0.5f, 0, 1, key, samples); });
  report("l2_step", 4, [&] { l2_step(exec, adv, grad, nat, 0.1f, 0.5f, 0, 1); });
}

void report_loss(Context& context, Peer* peer, int64_t rows, int64_t classes) {
  Exec& exec = context.exec;
  Pool pool(exec.device());
  const Tensor logits = random_tensor(exec, pool, matrix_shape(rows, classes), Dtype::kFloat32,
                                      Layout::kChannelsLast, -5, 5);
  const Tensor dlogits(pool, logits.shape(), Dtype::kFloat32);
  const Tensor loss(pool, vector_shape(rows), Dtype::kFloat32);
  const Tensor labels = cyclic_labels(exec, pool, rows, classes);
  const Tensor prediction(pool, vector_shape(rows), Dtype::kInt32);
  report_bandwidth(context, peer,
                   {fmt::format("cross_entropy, {} x {}", rows, classes),
                    [&] { cross_entropy(exec, loss, dlogits, prediction, logits, labels, 1); },
                    static_cast<double>(2 * logits.view().bytes() + 3 * loss.view().bytes()),
                    fmt::format("cross_entropy {} {}", rows, classes)},
                   kGoal);
}

}  // namespace

void run_fused_pgd(Context& context) {
  const auto peer = context.peer.start("fused_pgd.py", peer_machine(context));
  report_steps(context, peer.get(), 1024);
  report_steps(context, peer.get(), 8192);
  report_loss(context, peer.get(), 131072, 10);
  report_loss(context, peer.get(), 16384, 1000);
}

}  // namespace ringfort::bench
