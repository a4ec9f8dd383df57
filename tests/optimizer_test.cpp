// The optimizer over the flat buffers of a store: SGD against a plain loop in float64 (the others:
// tests/kernels_update_test.cpp, step_parity_test.cpp), which state it keeps, what it leaves alone.
#include "engine/optimizer.h"

#include <catch2/catch.hpp>

#include "engine/snapshot.h"
#include "models/layers.h"
#include "tests/tensors.h"

namespace ringfort::testing {
namespace {

constexpr double kLr = 0.125;
constexpr int kSteps = 4;

struct Store {
  ParamStore params;
  explicit Store(Exec& exec, bool with_copy = false) {
    LayerBuilder build(params);
    build.conv_with_bias("conv", 3, 5, 3, 1);
    build.norm("norm", 5);
    build.linear("fc", 45, 10);
    params.allocate(with_copy);
    randomize(exec, params, 9);
  }
  Vector gradient(ParamId id, int step) const {
    const auto seed = static_cast<uint64_t>(100 * step + static_cast<int>(id));
    return exact_vector(params.segment(id).shape.count(), seed);
  }
  // torch.nn.utils.clip_grad_norm_, but for its 1e-6 beside the norm.
  double clip_scale(int step, double most) const {
    double squares = 0;
    for (const ParamId id : params.in_memory_order())
      for (const double g : gradient(id, step)) squares += g * g;
    return most > 0 ? std::min(1.0, most / std::sqrt(squares)) : 1.0;
  }
};

// The definition (torch.optim.SGD), one parameter at a time.
Vector expected_after_steps(const Store& store, ParamId id, const OptimizerOptions& options,
                            double momentum) {
  const bool decays = options.decay_all || is_weight(store.params.segment(id).kind);
  Vector w = values_of(store.params.master(id)), m(w.size(), 0);
  for (int step = 0; step < kSteps; ++step) {
    const Vector gradient = store.gradient(id, step);
    const double scale = store.clip_scale(step, options.clip_grad);
    for (size_t i = 0; i < w.size(); ++i) {
      const double g = scale * gradient[i] + (decays ? options.weight_decay : 0) * w[i];
      m[i] = momentum * m[i] + g;
      w[i] -= kLr * (options.nesterov ? g + momentum * m[i] : m[i]);
    }
  }
  return w;
}

void check_sgd(Exec& exec, const OptimizerOptions& options, double momentum) {
  Store store(exec, true);
  std::vector<Vector> expected;
  for (const ParamId id : store.params.in_memory_order())
    expected.push_back(expected_after_steps(store, id, options, momentum));

  Optimizer sgd(store.params, options);
  const uint64_t version = store.params.version();
  for (int step = 0; step < kSteps; ++step) {
    for (const ParamId id : store.params.in_memory_order())
      assign(store.params.gradient(id), store.gradient(id, step));
    sgd.step(exec, {.lr = kLr, .momentum = momentum});
  }
  CHECK(store.params.version() == version + kSteps);
  size_t k = 0;
  for (const ParamId id : store.params.in_memory_order()) {
    INFO(store.params.segment(id).name);
    // four steps of four float32 roundings each
    CHECK(relative_error(values_of(store.params.master(id)), expected[k++]) <= 16 * 0x1p-24);
  }
  CHECK(values_of(store.params.flat_copy()) ==
        rounded_to(Dtype::kBFloat16, values_of(store.params.flat_master())));
}

}  // namespace

TEST_CASE("SGD follows its definition", "[optimizer]") {
  Exec exec;
  for (const bool nesterov : {false, true})
    for (const bool decay_all : {false, true})
      for (const double momentum : {0.0, 0.9})
        for (const double clip_grad : {0.0, 2.0, 1e6}) {
          INFO("nesterov " << nesterov << ", decay_all " << decay_all << ", momentum " << momentum
                           << ", clip_grad " << clip_grad);
          check_sgd(exec,
                    {.nesterov = nesterov,
                     .weight_decay = 0.01,
                     .decay_all = decay_all,
                     .clip_grad = clip_grad},
                    momentum);
        }
}

TEST_CASE("A snapshot brings back weights, statistics and state, bit for bit", "[optimizer]") {
  Exec exec({}, 1);
  Pool pool;
  for (const OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kLars, OptimizerKind::kAdam,
                                   OptimizerKind::kAdamW, OptimizerKind::kLamb}) {
    Store store(exec, true);
    Optimizer optimizer(store.params, {.kind = kind, .average = true});
    const auto step = [&](int number) {
      for (const ParamId id : store.params.in_memory_order())
        assign(store.params.gradient(id), store.gradient(id, number));
      const View statistics = store.params.flat_statistics();
      for (int64_t i = 0; i < statistics.count(); ++i) statistics.as<float>()[i] += 0.5f;
      store.params.statistics_changed();
      optimizer.step(exec, {.lr = kLr, .averaging = 0.5});
    };
    const auto state = [&] {
      std::vector<std::vector<std::byte>> all = {bytes_of(store.params.flat_copy())};
      for (const NamedView& part : training_state(store.params, optimizer))
        all.push_back(bytes_of(part.view));
      return all;
    };
    const bool moments = kind != OptimizerKind::kSgd && kind != OptimizerKind::kLars;
    CHECK(state().size() == (moments ? 7 : 5));
    step(0);
    const auto before = state();
    const Snapshot snapshot(exec, pool, store.params, optimizer);
    step(1);
    const auto after = state();
    for (size_t i = 0; i < before.size(); ++i) CHECK(after[i] != before[i]);
    for (int again = 0; again < 2; ++again) {  // a snapshot serves more than once
      const uint64_t version = store.params.version(), seen = store.params.statistics_version();
      snapshot.restore(exec, store.params, optimizer);
      CHECK(state() == before);
      CHECK(store.params.version() > version);
      CHECK(store.params.statistics_version() > seen);
      step(1);
      CHECK(state() == after);
    }
  }
}

TEST_CASE("Without gradients only what decays moves", "[optimizer]") {
  Exec exec({}, 1);
  Store store(exec);
  std::vector<Vector> before;
  for (const ParamId id : store.params.in_memory_order())
    before.push_back(values_of(store.params.master(id)));
  Optimizer sgd(store.params, {.weight_decay = 0.5, .decay_all = false});
  sgd.step(exec, {.lr = 0.5, .momentum = 0});
  size_t k = 0;
  for (const ParamId id : store.params.in_memory_order()) {
    INFO(store.params.segment(id).name);
    Vector expected = before[k++];
    if (is_weight(store.params.segment(id).kind))
      for (double& w : expected) w *= 0.75;  // exact: the numbers have 8 bits
    CHECK(values_of(store.params.master(id)) == expected);
  }
}

TEST_CASE("The update leaves gradients, statistics and padding alone", "[optimizer]") {
  const OptimizerKind kind = GENERATE(OptimizerKind::kSgd, OptimizerKind::kLars,
                                      OptimizerKind::kAdam, OptimizerKind::kLamb);
  Exec exec({}, 1);
  Store store(exec);
  for (const ParamId id : store.params.in_memory_order())
    assign(store.params.gradient(id), store.gradient(id, 0));
  const auto gradient = bytes_of(store.params.flat_gradient());
  const auto statistics = bytes_of(store.params.flat_statistics());
  Optimizer optimizer(store.params, {.kind = kind, .decay_all = false, .average = true});
  for (int step = 0; step < 2; ++step) optimizer.step(exec, {.lr = kLr, .averaging = 0.5});
  CHECK(bytes_of(store.params.flat_gradient()) == gradient);
  CHECK(bytes_of(store.params.flat_statistics()) == statistics);
  for (const NamedView& part : training_state(store.params, optimizer)) {
    if (part.view.count() != store.params.flat_master().count()) continue;
    INFO(part.name);
    Vector values = values_of(part.view);
    for (const Segment& segment : store.params.segments())
      std::fill_n(values.begin() + segment.offset, segment.shape.count(), 0.0);
    CHECK(values == Vector(values.size(), 0));
  }
}

TEST_CASE("The update does not depend on the number of threads", "[optimizer]") {
  const OptimizerKind kind = GENERATE(OptimizerKind::kSgd, OptimizerKind::kLars,
                                      OptimizerKind::kAdam, OptimizerKind::kLamb);
  Exec one({}, 1), two({}, 2);
  std::vector<std::vector<std::byte>> results;
  for (Exec* exec : {&one, &two}) {
    ParamStore params;
    params.add("w", vector_shape(100'000), ParamKind::kLinearWeight);
    params.allocate();
    initialize(*exec, params, 2);
    assign(params.flat_gradient(), random_vector(params.flat_gradient().count(), 3));
    Optimizer optimizer(params, {.kind = kind, .clip_grad = 1});
    for (int step = 0; step < 2; ++step) optimizer.step(*exec, {.lr = kLr});
    results.push_back(bytes_of(params.flat_master()));
  }
  CHECK(results[0] == results[1]);
}

}  // namespace ringfort::testing
