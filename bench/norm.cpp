// norm: batch norm fused with ReLU, in its three forms: by batch statistics forward and backward
// (training), by running statistics forward and backward (attacks).
#include "kernels/norm.h"

#include "bench/bandwidth.h"
#include "bench/timing.h"
#include "engine/weight_cache.h"
#include "kernels/activation.h"
#include "kernels/device_memory.h"

namespace ringfort::bench {
namespace {

constexpr double kEpsilon = 1e-5;
constexpr double kGpuGoal = 0.8;

}  // namespace

void run_norm(Context& context) {
  Exec& exec = context.exec;
  const auto peer = context.peer.start("norm.py", peer_machine(context));
  Pool pool(exec.device());
  const Shape shape{64, 32, 32, 64};
  const bool cpu = exec.device().kind == DeviceKind::kCpu;
  const Layout layout = cpu ? Layout::kBlocked16 : Layout::kChannelsLast;
  const Tensor x = random_tensor(exec, pool, shape, Dtype::kFloat32, layout);
  const Tensor dy = random_tensor(exec, pool, shape, Dtype::kFloat32, layout);
  const Tensor y(pool, shape, Dtype::kFloat32, layout), dx(pool, shape, Dtype::kFloat32, layout);
  const Tensor mask(pool, shape, Dtype::kBit, layout);
  const Tensor storage(pool, matrix_shape(12, shape.c), Dtype::kFloat32);
  const NormVectors v = norm_vectors(storage, shape.c);
  const auto row = [&](int64_t i) {
    return reshaped(storage.view().samples(i, 1), vector_shape(shape.c));
  };
  const View gamma = row(8), beta = row(9), dgamma = row(10), dbeta = row(11);
  const auto fill = [&](const View& vector, float value) {
    const std::vector<float> values(static_cast<size_t>(shape.c), value);
    to_device(exec, vector, values.data());
  };
  fill(gamma, 1.0f);
  fill(beta, 0.1f);

  const double array = static_cast<double>(x.view().bytes()), bits = array / 32;
  const auto report = [&](const char* name, double bytes, std::function<void()> run) {
    report_bandwidth(context, peer.get(), {name, std::move(run), bytes, name},
                     cpu ? std::nullopt : std::optional(kGpuGoal));
  };
  report("batch statistics, forward", 3 * array, [&] {
    batch_norm_forward(exec, y, v, x, gamma, beta, {.relu = true}, {row(5), row(6), row(7)},
                       kEpsilon);
  });
  report("batch statistics, backward", 5 * array,
         [&] { batch_norm_gradients(exec, dx, dbeta, dgamma, x, dy, gamma, v, true, 0); });
  report("running statistics, forward", 2 * array + bits,
         [&] { scale_shift_relu(exec, y, mask, x, v.scale, v.shift); });
  report("running statistics, backward", 2 * array + bits, [&] {
    gate_backward(exec, dx, dy, {mask, v.scale}, 0);
  });
}

}  // namespace ringfort::bench
