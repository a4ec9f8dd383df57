// What a pass promises beside right numbers: an attack writes nothing but its gradient, batch-norm
// modes touch statistics as they say, parameters are announced once, in order and complete, memory
// goes back while backward runs, and cached weights follow their parameters.
#include "engine/pass.h"

#include <catch2/catch.hpp>

#include "engine/optimizer.h"
#include "kernels/plans.h"
#include "models/layers.h"
#include "models/model.h"
#include "tests/tensors.h"

namespace ringfort::testing {
namespace {

using Catch::Contains;

// A pre-activation ResNet on small images: every kind of op and both kinds of shortcut.
struct Fixture {
  Exec exec;
  std::unique_ptr<Model> model;
  Pool pool;
  Shape shape;
  Tensor labels;

  explicit Fixture(int width = 4, int64_t batch = 4, int64_t size = 8) {
    exec.plans().force("direct");
    model =
        make_model({"preact_resnet18", width, 10, size, size, 3, {}, {}}, {.bfloat16_copy = true});
    randomize(exec, params(), 3);
    shape = {batch, size, size, 3};
    Vector classes(static_cast<size_t>(batch));
    for (size_t i = 0; i < classes.size(); ++i) classes[i] = static_cast<double>(i % 10);
    labels = tensor_of(pool, vector_shape(batch), classes, Dtype::kInt32);
  }
  ParamStore& params() { return model->params(); }

  Tensor pixels() {
    return tensor_of(pool, shape, exact_vector(shape.count(), 61, 0, 1), Dtype::kFloat32);
  }
  Var forward(Pass& p) { return model->forward(p, p.input(pixels())); }
  void backward(Pass& p, const Var& logits) {
    p.backward(logits, cross_entropy(p, logits, labels, 1).dlogits);
  }
  Vector logits(const PassOptions& options) {
    Pass p(exec, pool, params(), options);
    return values_of(forward(p).value);
  }
  // Forward and backward; returns the parameter gradients written.
  int64_t run(const PassOptions& options) {
    Pass p(exec, pool, params(), options);
    backward(p, forward(p));
    return p.gradients_written();
  }
};

constexpr PassOptions kTraining = {Wrt::kParams, BnMode::kBatchAndUpdate, Dtype::kFloat32, false};

using Snapshot = std::vector<std::vector<std::byte>>;

// Outside of CHECK, which prints what it compares: megabytes here.
template <class T>
bool same(const T& a, const T& b) {
  return a == b;
}

Snapshot snapshot(const ParamStore& params) {
  return {bytes_of(params.flat_master()), bytes_of(params.flat_copy()),
          bytes_of(params.flat_gradient()), bytes_of(params.flat_statistics())};
}

}  // namespace

TEST_CASE("An attack's pass leaves weights, gradients and statistics as they are", "[pass]") {
  Fixture f;
  poison(f.params().flat_gradient());
  const Snapshot before = snapshot(f.params());
  const uint64_t version = f.params().version(), statistics = f.params().statistics_version();
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16})
    for (const BnMode bn : {BnMode::kRunning, BnMode::kBatch}) {
      INFO(to_string(dtype) << ", batch-norm mode " << static_cast<int>(bn));
      bool announced = false;
      Pass p(f.exec, f.pool, f.params(), {Wrt::kInput, bn, dtype},
             [&](ParamId) { announced = true; });
      const Var x = p.input(f.pixels());
      f.backward(p, f.model->forward(p, x));
      CHECK(p.gradients_written() == 0);
      CHECK_FALSE(announced);
      CHECK(same(snapshot(f.params()), before));
      CHECK(p.tape.gradient(x).dtype() == Dtype::kFloat32);
      const Vector dx = values_of(p.tape.gradient(x));
      CHECK(std::all_of(dx.begin(), dx.end(), [](double v) { return std::isfinite(v); }));
      CHECK(dot(dx, dx) > 0);
    }
  CHECK(f.params().version() == version);
  CHECK(f.params().statistics_version() == statistics);
}

TEST_CASE("Batch-norm modes move running statistics as they say", "[pass]") {
  constexpr int64_t kChannels = 5, kCount = 4 * 3 * 3;
  Exec exec({}, 1);
  Pool pool;
  ParamStore params(Dtype::kFloat64);
  LayerBuilder build(params);
  const NormParams norm = build.norm("norm", kChannels);
  params.allocate();
  randomize(exec, params, 3);
  const Vector x = random_vector(kCount * kChannels, 5, -2, 3);
  const auto pass = [&](BnMode bn) {
    Pass p(exec, pool, params, {Wrt::kParams, bn, Dtype::kFloat64});
    batch_norm(p, p.input(tensor_of(pool, {4, 3, 3, kChannels}, x)), norm, Activation::kRelu);
  };
  const auto mean = [&] { return values_of(params.statistic(norm.mean)); };
  const auto variance = [&] { return values_of(params.statistic(norm.variance)); };
  const Vector mean0 = mean(), variance0 = variance();
  const uint64_t version = params.statistics_version();
  for (const BnMode bn : {BnMode::kRunning, BnMode::kBatch}) {
    pass(bn);
    CHECK(mean() == mean0);
    CHECK(variance() == variance0);
    CHECK(params.statistics_version() == version);
  }

  // 0.9 of the old and 0.1 of the batch's, whose variance is the unbiased one.
  pass(BnMode::kBatchAndUpdate);
  CHECK(params.statistics_version() > version);
  for (size_t c = 0; c < kChannels; ++c) {
    double sum = 0, squares = 0;
    for (size_t i = c; i < x.size(); i += kChannels) sum += x[i] / kCount;
    for (size_t i = c; i < x.size(); i += kChannels) squares += (x[i] - sum) * (x[i] - sum);
    CHECK(mean()[c] == Approx(0.9 * mean0[c] + 0.1 * sum).epsilon(1e-7));
    CHECK(variance()[c] == Approx(0.9 * variance0[c] + 0.1 * squares / (kCount - 1)).epsilon(1e-7));
  }
}

TEST_CASE("Each parameter is announced once, in memory order, when its gradient is final",
          "[pass]") {
  Fixture f;
  for (const Wrt wrt : {Wrt::kParams, Wrt::kBoth}) {
    poison(f.params().flat_gradient());
    std::vector<ParamId> announced;
    Snapshot slices;
    Pass p(f.exec, f.pool, f.params(), {wrt, BnMode::kBatchAndUpdate, Dtype::kFloat32},
           [&](ParamId id) {
             announced.push_back(id);
             slices.push_back(bytes_of(f.params().gradient(id)));
           });
    const Var logits = f.forward(p);
    CHECK(announced.empty());
    f.backward(p, logits);
    CHECK(announced == f.params().in_memory_order());
    CHECK(p.gradients_written() == static_cast<int64_t>(announced.size()));
    for (size_t i = 0; i < announced.size(); ++i) {
      INFO(f.params().segment(announced[i]).name);
      CHECK(same(slices[i], bytes_of(f.params().gradient(announced[i]))));
      const Vector gradient = values_of(f.params().gradient(announced[i]));
      CHECK(std::none_of(gradient.begin(), gradient.end(), [](double v) { return std::isnan(v); }));
      CHECK(dot(gradient, gradient) > 0);
    }
  }
}

namespace {

// Convolutions by three filters, of which one is not used at all and one twice.
struct SharedFilter {
  Exec exec{{}, 1};
  Pool pool;
  ParamStore params{Dtype::kFloat64};
  ConvParams shared, unused, last;

  SharedFilter() {
    LayerBuilder build(params);
    unused = build.conv("unused", 3, 3, 3, 1);  // last in memory: it holds up no other
    shared = build.conv("shared", 3, 3, 3, 1);
    last = build.conv("last", 3, 2, 3, 1);
    params.allocate();
    randomize(exec, params, 3);
  }
  Vector gradient(const ConvParams& conv) const { return values_of(params.gradient(conv.weight)); }

  void run(Pass& p) {
    const Shape shape = {2, 4, 4, 3}, out = {2, 4, 4, 2};
    Var x = p.input(tensor_of(pool, shape, random_vector(shape.count(), 4)));
    x = conv2d(p, conv2d(p, x, shared), shared);
    const Var y = conv2d(p, x, last);
    p.backward(y, tensor_of(pool, out, random_vector(out.count(), 5)));
  }
  void run(const PassOptions& options, Pass::OnReady on_ready = {}) {
    Pass p(exec, pool, params, options, std::move(on_ready));
    run(p);
  }
};

}  // namespace

TEST_CASE("A shared parameter is announced after its last use, an unused one gets zero", "[pass]") {
  SharedFilter f;
  poison(f.params.flat_gradient());
  std::vector<ParamId> announced;
  Snapshot slices;
  f.run({Wrt::kParams, BnMode::kRunning, Dtype::kFloat64}, [&](ParamId id) {
    announced.push_back(id);
    slices.push_back(bytes_of(f.params.gradient(id)));
  });
  CHECK(announced == f.params.in_memory_order());
  for (size_t i = 0; i < announced.size(); ++i)
    CHECK(same(slices[i], bytes_of(f.params.gradient(announced[i]))));
  CHECK(f.gradient(f.unused) == Vector(81, 0));
  CHECK(dot(f.gradient(f.shared), f.gradient(f.shared)) > 0);
}

TEST_CASE("Accumulating adds to the gradient and keeps what no op reaches", "[pass]") {
  SharedFilter f;
  f.run({Wrt::kParams, BnMode::kRunning, Dtype::kFloat64});
  const Vector shared = f.gradient(f.shared), last = f.gradient(f.last);
  f.run({Wrt::kParams, BnMode::kRunning, Dtype::kFloat64});
  CHECK(f.gradient(f.shared) == shared);  // overwritten, not added to

  const Vector held(81, 0.25);
  assign(f.params.gradient(f.unused.weight), held);
  f.run({Wrt::kParams, BnMode::kRunning, Dtype::kFloat64, true});
  CHECK(relative_error(f.gradient(f.shared), moved(shared, shared, 1)) <= 1e-14);
  CHECK(relative_error(f.gradient(f.last), moved(last, last, 1)) <= 1e-14);
  CHECK(f.gradient(f.unused) == held);
}

TEST_CASE("Parameters get zero where the result depends on none of them", "[pass]") {
  SharedFilter f;
  poison(f.params.flat_gradient());
  std::vector<ParamId> announced;
  Pass p(f.exec, f.pool, f.params, {Wrt::kParams, BnMode::kRunning, Dtype::kFloat64},
         [&](ParamId id) { announced.push_back(id); });
  const Tensor x = tensor_of(f.pool, {2, 4, 4, 3}, random_vector(96, 4));
  conv2d(p, p.input(x), f.shared);  // recorded; nothing flows back to it
  p.backward(p.input(x), x);
  CHECK(announced == f.params.in_memory_order());
  CHECK(p.gradients_written() == 0);
  for (const ParamId id : announced)
    CHECK(values_of(f.params.gradient(id)) ==
          Vector(static_cast<size_t>(f.params.segment(id).shape.count()), 0));
}

TEST_CASE("Misuse of a pass is refused", "[pass]") {
  SharedFilter f;
  Pass p(f.exec, f.pool, f.params, {Wrt::kParams, BnMode::kRunning, Dtype::kFloat64});
  f.run(p);
  CHECK_THROWS_WITH(f.run(p), Contains("backward has run already"));
  CHECK_THROWS_WITH(p.write_gradient(f.unused.weight, [](View, float) {}),
                    Contains("'unused.weight'") && Contains("announced"));
  ParamStore params;
  LayerBuilder build(params);
  const NormParams norm = build.norm("norm", 4);
  params.allocate();
  Pass q(f.exec, f.pool, params);
  const Var x = q.input(Tensor(f.pool, {1, 1, 1, 3}, Dtype::kFloat32));
  CHECK_THROWS_WITH(batch_norm(q, x, norm, Activation::kNone),
                    Contains("'norm.weight'") && Contains("4 channels") && Contains("has 3"));
}

TEST_CASE("One value per channel has no variance to learn", "[pass]") {
  Exec exec({}, 1);
  Pool pool;
  ParamStore params;
  LayerBuilder build(params);
  const NormParams norm = build.norm("norm", 3);
  params.allocate();
  Pass p(exec, pool, params, kTraining);
  const Var x = p.input(tensor_of(pool, {1, 1, 1, 3}, {1, 2, 3}, Dtype::kFloat32));
  CHECK_THROWS_WITH(batch_norm(p, x, norm, Activation::kNone), Contains("larger batch"));
}

// --- memory
// ---------------------------------------------------------------------------------------

TEST_CASE("Memory goes back while backward runs, and all of it with the pass", "[pass]") {
  Fixture f;
  const int64_t before = f.pool.bytes_in_use();
  std::vector<int64_t> in_use;  // whenever backward has come through a block
  {
    Pass p(f.exec, f.pool, f.params(), kTraining, [&](ParamId id) {
      if (f.params().segment(id).name.ends_with(".bn1.weight"))
        in_use.push_back(f.pool.bytes_in_use() - before);
    });
    Var logits = f.forward(p);
    const int64_t recorded = f.pool.bytes_in_use() - before;
    f.backward(p, logits);
    REQUIRE(in_use.size() == 8);
    CHECK(in_use.front() < recorded);
    for (size_t i = 1; i < in_use.size(); ++i) CHECK(in_use[i] < in_use[i - 1]);
    CHECK(in_use.back() < recorded / 4);
    logits = Var{};
    CHECK(f.pool.bytes_in_use() == before);
  }
  CHECK(f.pool.bytes_in_use() == before);

  {  // a pass that never runs backward gives everything back too
    Pass p(f.exec, f.pool, f.params(), kTraining);
    f.forward(p);
    CHECK(f.pool.bytes_in_use() > before);
  }
  CHECK(f.pool.bytes_in_use() == before);
}

TEST_CASE("A convolution keeps its input for a filter's gradient only", "[pass]") {
  Exec exec({}, 1);
  Pool pool;
  ParamStore params(Dtype::kFloat64);
  LayerBuilder build(params);
  const ConvParams conv = build.conv("conv", 3, 3, 3, 1);
  params.allocate();
  const Shape shape = {2, 8, 8, 3};
  for (const Wrt wrt : {Wrt::kNothing, Wrt::kInput, Wrt::kParams, Wrt::kBoth}) {
    Pass p(exec, pool, params, {wrt, BnMode::kRunning, Dtype::kFloat64});
    const Var y = conv2d(p, p.input(Tensor(pool, shape, Dtype::kFloat64)), conv);
    const int64_t kept = p.wants_parameter_gradients() ? 2 : 1;  // x and y, or y alone
    CHECK(pool.bytes_in_use() == kept * bytes_for(Dtype::kFloat64, shape.count()));
  }
}

TEST_CASE("A folded norm costs an attack its result and one bit per element", "[pass]") {
  Exec exec({}, 1);
  Pool pool;
  ParamStore params(Dtype::kFloat64);
  LayerBuilder build(params);
  const ConvParams conv = build.conv("conv", 3, 3, 3, 1);
  const NormParams norm = build.norm("norm", 3);
  params.allocate();
  const Shape shape = {2, 8, 8, 3};
  Pass p(exec, pool, params, {Wrt::kInput, BnMode::kRunning, Dtype::kFloat64});
  Var x = p.input(Tensor(pool, shape, Dtype::kFloat64));
  const Var y = conv_norm_relu(p, std::move(x), conv, norm);
  const int64_t bytes = bytes_for(Dtype::kFloat64, shape.count());
  CHECK(pool.bytes_in_use() == bytes + bytes_for(Dtype::kBit, shape.count()) + 16);  // whole lines
  CHECK(pool.peak_bytes() == pool.bytes_in_use() + bytes);  // x; the convolution's result is y
}

TEST_CASE("A residual is written over where nobody needs it, and copied where somebody does",
          "[pass]") {
  Exec exec({}, 1);
  Pool pool;
  ParamStore params(Dtype::kFloat64);
  LayerBuilder build(params);
  const ConvParams conv = build.conv("conv", 3, 3, 3, 1);
  params.allocate();
  randomize(exec, params, 3);
  const Shape shape = {2, 4, 4, 3};
  Pass p(exec, pool, params, {Wrt::kNothing, BnMode::kRunning, Dtype::kFloat64});
  const Var x = p.input(tensor_of(pool, shape, random_vector(shape.count(), 4)));
  const Vector residual = random_vector(shape.count(), 5);
  Var held = p.input(tensor_of(pool, shape, residual));
  const void* const memory = held.value.view().data;
  const Var copied = conv2d_add(p, x, conv, held);
  CHECK(copied.value.view().data != memory);
  CHECK(values_of(held.value) == residual);
  const Var replaced = conv2d_add(p, x, conv, std::move(held));
  CHECK(replaced.value.view().data == memory);
  CHECK(values_of(replaced.value) == values_of(copied.value));
}

TEST_CASE("An attack's pass peaks at a quarter of a training pass's memory or less", "[pass]") {
  Fixture f(16, 16, 32);
  const auto peak = [&](const PassOptions& options) {
    const int64_t before = f.pool.bytes_in_use();
    f.pool.reset_peak();
    f.run(options);
    CHECK(f.pool.bytes_in_use() == before);
    return f.pool.peak_bytes() - before;
  };
  const int64_t training = peak(kTraining), attack = peak({Wrt::kInput});
  INFO(attack << " of " << training << " bytes");
  CHECK(4 * attack <= training);
  CHECK(attack > 0);
}

// --- the weight cache
// -----------------------------------------------------------------------------

TEST_CASE("Prepared and folded weights follow their parameters", "[pass]") {
  Fixture f(16);
  const PassOptions passes[] = {{Wrt::kNothing, BnMode::kRunning, Dtype::kFloat32},
                                {Wrt::kParams, BnMode::kBatch, Dtype::kFloat32},
                                {Wrt::kNothing, BnMode::kRunning, Dtype::kBFloat16}};
  const auto all_logits = [&](Fixture& fixture) {
    std::vector<Vector> logits;
    for (const PassOptions& options : passes) logits.push_back(fixture.logits(options));
    return logits;
  };
  // A model that has never seen other values is the reference.
  const auto check_against_fresh = [&] {
    Fixture fresh(16);
    assign(fresh.params().flat_master(), values_of(f.params().flat_master()));
    assign(fresh.params().flat_statistics(), values_of(f.params().flat_statistics()));
    fresh.params().master_changed(fresh.exec);
    fresh.params().statistics_changed();
    CHECK(same(all_logits(f), all_logits(fresh)));
  };
  const std::vector<Vector> before = all_logits(f);
  CHECK(same(all_logits(f), before));  // from the cache

  f.run(kTraining);  // moves statistics
  const std::vector<Vector> moved_statistics = all_logits(f);
  CHECK(moved_statistics[0] != before[0]);
  CHECK(moved_statistics[1] == before[1]);  // batch statistics
  CHECK(moved_statistics[2] != before[2]);
  check_against_fresh();

  Optimizer sgd(f.params(), {});
  sgd.step(f.exec, {.lr = 0.01});
  const std::vector<Vector> updated = all_logits(f);
  for (size_t i = 0; i < 3; ++i) CHECK(updated[i] != moved_statistics[i]);
  check_against_fresh();

  const View stem = f.params().master(ParamId{0});
  assign(stem, Vector(static_cast<size_t>(stem.count()), 0.125));
  f.params().master_changed(f.exec);
  for (size_t i = 0; i < 3; ++i) CHECK(f.logits(passes[i]) != updated[i]);
  check_against_fresh();
}

TEST_CASE("A filter shared by two norms is folded with each", "[pass]") {
  Exec exec;
  ParamStore params;
  LayerBuilder build(params);
  const ConvParams conv = build.conv("conv", 2, 3, 3, 1);
  const NormParams norms[] = {build.norm("first", 3), build.norm("second", 3)};
  params.allocate();
  randomize(exec, params, 5);
  for (int round = 0; round < 2; ++round)
    for (const NormParams& norm : norms) {
      const auto folded =
          params.cache().folded(exec, params, conv.weight, norm, Dtype::kFloat32).filter.w;
      Vector expected = values_of(params.master(conv.weight));
      const Vector scale = values_of(params.cache().running(exec, params, norm).scale);
      for (size_t i = 0; i < expected.size(); ++i)
        expected[i] = static_cast<float>(expected[i] * scale[i / (expected.size() / 3)]);
      CHECK(values_of(folded) == expected);
    }
}

}  // namespace ringfort::testing
