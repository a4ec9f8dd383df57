// Whole networks, small and in float64: input gradient and every parameter's gradient against
// central differences, in each batch-norm mode; the fused paths of an attack against the plain
// ones; float32 against float64; what distinguishes the two shortcuts; the registry's errors.
#include <catch2/catch.hpp>

#include "kernels/plans.h"
#include "models/model.h"
#include "tests/gradient_check.h"
#include "tests/tensors.h"

namespace ringfort::testing {
namespace {

constexpr int64_t kBatch = 8, kClasses = 5;
constexpr std::array kModels = {"cnn_small", "mnist_net", "preact_resnet18", "preact_resnet18_raw",
                                "resnet18",  "resnet50",  "wrn_28_10",       "wrn_28_10_silu"};

ModelSpec tiny(const std::string& name, int width = 2) {
  ModelSpec spec;
  spec.name = name;
  spec.width = width;
  spec.classes = kClasses;
  spec.height = spec.image_width = 8;
  spec.mean = {0.49f, 0.48f, 0.45f};
  spec.std = {0.25f, 0.24f, 0.26f};
  return spec;
}

// A network with random weights, pixels and labels.
struct Network {
  Exec& exec;
  Dtype dtype;
  std::unique_ptr<Model> model;
  Pool pool;
  Shape shape;
  Vector pixels;
  Tensor labels;

  Network(Exec& exec_in, const ModelSpec& spec, Dtype dtype_in = Dtype::kFloat64)
      : exec(exec_in), dtype(dtype_in) {
    const Dtype master = dtype == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
    model = make_model(spec, {master, dtype == Dtype::kBFloat16});
    randomize(exec, params(), 3);
    end_branches_small();
    shape = {kBatch, spec.height, spec.image_width, spec.channels};
    pixels = exact_vector(shape.count(), 61, 0, 1);
    labels = tensor_of(pool, vector_shape(kBatch), {0, 3, 1, 4, 4, 2, 0, 1}, Dtype::kInt32);
  }
  ParamStore& params() { return model->params(); }

  // As in trained networks with many blocks (ResNet-50), where a block is near the identity. With
  // branches as large as their shortcuts, what a step moves and what rounding adds would grow from
  // block to block, until any step crosses a kink.
  void end_branches_small() {
    for (const ParamId id : params().in_memory_order()) {
      if (!params().segment(id).name.ends_with("bn3.weight")) continue;
      Vector scale = values_of(params().master(id));
      for (double& value : scale) value /= 32;
      assign(params().master(id), scale);
    }
    params().master_changed(exec);
  }

  struct Result {
    Vector logits, dx;
  };
  // Summed cross-entropy and its gradients; parameters' gradients lie in the store.
  Result run(Wrt wrt, BnMode bn) {
    Pass p(exec, pool, params(), {wrt, bn, dtype});
    const Dtype pixel_dtype = dtype == Dtype::kBFloat16 ? Dtype::kFloat32 : dtype;
    const Var x = p.input(tensor_of(pool, shape, pixels, pixel_dtype));
    const Var logits = model->forward(p, x);
    Result result{values_of(logits.value), {}};
    if (!logits.needs_gradient()) return result;
    p.backward(logits, cross_entropy(p, logits, labels, 1).dlogits);
    if (x.needs_gradient()) result.dx = values_of(p.tape.gradient(x));
    return result;
  }
  double loss(BnMode bn) {
    Pass p(exec, pool, params(), {Wrt::kNothing, bn, dtype});
    const Var logits = model->forward(p, p.input(tensor_of(pool, shape, pixels, dtype)));
    const Vector losses = values_of(cross_entropy(p, logits, labels, 1).loss);
    return dot(losses, Vector(losses.size(), 1));
  }
};

// A step crosses a kink now and then: among a few directions and steps the first along which the
// loss is smooth is taken. Which ones are is decided by function values alone (gradient_check.h).
template <class F>
void check_projection(const Vector& gradient, const F& loss_at) {
  for (uint64_t seed = 71; seed < 103; ++seed)
    for (const double step : {1e-5, 3e-6, 1e-6, 3e-7, 1e-7, 3e-8}) {
      const Vector direction = random_vector(static_cast<int64_t>(gradient.size()), seed);
      const Slope slope = central_slope([&](double t) { return loss_at(direction, t); }, step);
      if (!slope.smooth) continue;
      // A loss of order 10 is rounded by 1e-15, which the quotient multiplies.
      CHECK(std::abs(dot(gradient, direction) - slope.value) <=
            1e-7 * std::abs(slope.value) + 1e-14 / step);
      return;
    }
  FAIL_CHECK("no direction without a kink was found");
}

void check_network_gradients(Network& net, BnMode bn) {
  const Vector dx = net.run(Wrt::kBoth, bn).dx;
  const Vector pixels = net.pixels;
  check_projection(dx, [&](const Vector& direction, double t) {
    net.pixels = moved(pixels, direction, t);
    return net.loss(bn);
  });
  net.pixels = pixels;
  for (const ParamId id : net.params().in_memory_order()) {
    INFO(net.params().segment(id).name);
    const View master = net.params().master(id);
    const Vector values = values_of(master);
    check_projection(values_of(net.params().gradient(id)), [&](const Vector& direction, double t) {
      assign(master, moved(values, direction, t));
      net.params().master_changed(net.exec);
      return net.loss(bn);
    });
    assign(master, values);
    net.params().master_changed(net.exec);
  }
}

}  // namespace

TEST_CASE("Whole networks' gradients agree with central differences", "[models][slow]") {
  Exec exec({}, 1);
  for (const char* name : kModels)
    for (const BnMode bn : {BnMode::kRunning, BnMode::kBatch, BnMode::kBatchAndUpdate}) {
      INFO(name << ", batch-norm mode " << static_cast<int>(bn));
      Network net(exec, tiny(name));
      check_network_gradients(net, bn);
      if (net.params().statistics().empty()) break;  // it has no norm
      // Under batch statistics, 53 norms deep, a step in bn1.bias always crosses a kink: PyTorch's
      // gradients stand in (parity_test.cpp).
      if (std::string(name) == "resnet50") break;
    }
}

TEST_CASE("The fused paths of an attack equal the plain ones", "[models]") {
  Exec exec;
  exec.plans().force("direct");
  for (const char* name : kModels) {
    INFO(name);
    Network exact(exec, tiny(name, 4));
    const Network::Result plain = exact.run(Wrt::kBoth, BnMode::kRunning);
    const Network::Result fused = exact.run(Wrt::kInput, BnMode::kRunning);
    CHECK(relative_error(fused.logits, plain.logits) <= 1e-12);
    CHECK(relative_error(fused.dx, plain.dx) <= 1e-12);
    CHECK(relative_error(exact.run(Wrt::kNothing, BnMode::kRunning).logits, plain.logits) <= 1e-12);

    // float32, also in blocks of 16. Some 40 ops in a row, each off by up to 10 units of 2^-24,
    // adding up like a random walk: 63 units.
    for (const int width : {4, 16}) {
      INFO("width " << width);
      Network reference(exec, tiny(name, width)), single(exec, tiny(name, width), Dtype::kFloat32);
      const Network::Result expected = reference.run(Wrt::kInput, BnMode::kRunning);
      for (const Wrt wrt : {Wrt::kInput, Wrt::kBoth}) {
        const Network::Result actual = single.run(wrt, BnMode::kRunning);
        CHECK(relative_error(actual.logits, expected.logits) <= 200 * 0x1p-24);
        CHECK(relative_error(actual.dx, expected.dx) <= 200 * 0x1p-24);
      }
    }
  }
}

// In bfloat16 every op rounds filters and results: 80 roundings of 2^-9 as a random walk are 2 %.
TEST_CASE("A network in bfloat16 has the logits of float64 within its rounding", "[models]") {
  Exec exec;
  exec.plans().force("direct");
  for (const char* name : kModels)
    for (const Wrt wrt : {Wrt::kNothing, Wrt::kBoth}) {
      INFO(name << (wrt == Wrt::kNothing ? ", fused" : ", plain"));
      Network reference(exec, tiny(name, 16)), half(exec, tiny(name, 16), Dtype::kBFloat16);
      const Vector logits = half.run(wrt, BnMode::kRunning).logits;
      CHECK(relative_error(logits, reference.run(wrt, BnMode::kRunning).logits) <= 0.04);
    }
}

// Same parameters, names and shapes; another function.
TEST_CASE("The two shortcuts are two networks", "[models]") {
  Exec exec({}, 1);
  Network he(exec, tiny("preact_resnet18")), raw(exec, tiny("preact_resnet18_raw"));
  REQUIRE(values_of(he.params().flat_master()) == values_of(raw.params().flat_master()));
  const Vector a = he.run(Wrt::kNothing, BnMode::kRunning).logits;
  const Vector b = raw.run(Wrt::kNothing, BnMode::kRunning).logits;
  CHECK(relative_error(a, b) > 0.01);

  // With projections of zero no shortcut is left where they differ, and both are the same.
  for (Network* net : {&he, &raw}) {
    for (const ParamId id : net->params().in_memory_order())
      if (net->params().segment(id).name.find("shortcut") != std::string::npos) {
        const View weight = net->params().master(id);
        assign(weight, Vector(static_cast<size_t>(weight.count()), 0));
      }
    net->params().master_changed(exec);
  }
  CHECK(he.run(Wrt::kNothing, BnMode::kRunning).logits ==
        raw.run(Wrt::kNothing, BnMode::kRunning).logits);
}

// f((x - mean) / std): the network without normalisation at normalised pixels, and the chain rule.
TEST_CASE("Normalisation is the first layer of a model", "[models]") {
  Exec exec({}, 1);
  ModelSpec plain_spec = tiny("cnn_small");
  plain_spec.mean = plain_spec.std = {};
  Network net(exec, tiny("cnn_small")), plain(exec, plain_spec);
  const auto channel = [](size_t i) { return i % 3; };
  const std::vector<float>&mean = net.model->spec().mean, &deviation = net.model->spec().std;
  for (size_t i = 0; i < plain.pixels.size(); ++i)
    plain.pixels[i] = (net.pixels[i] - static_cast<double>(mean[channel(i)])) /
                      static_cast<double>(deviation[channel(i)]);
  const Network::Result actual = net.run(Wrt::kInput, BnMode::kRunning);
  Network::Result expected = plain.run(Wrt::kInput, BnMode::kRunning);
  for (size_t i = 0; i < expected.dx.size(); ++i)
    expected.dx[i] /= static_cast<double>(deviation[channel(i)]);
  CHECK(relative_error(actual.logits, expected.logits) <= 1e-13);
  CHECK(relative_error(actual.dx, expected.dx) <= 1e-13);
}

TEST_CASE("A network's samples do not see each other under running statistics", "[models]") {
  Exec exec({}, 1);
  for (const char* name : kModels) {
    INFO(name);
    Network net(exec, tiny(name));
    const Network::Result before = net.run(Wrt::kInput, BnMode::kRunning);
    const auto per_sample = static_cast<size_t>(net.shape.per_sample());
    for (size_t i = 0; i < per_sample; ++i) net.pixels[i] = 1 - net.pixels[i];
    const Network::Result after = net.run(Wrt::kInput, BnMode::kRunning);
    const auto rest = [](const Vector& v, size_t first) {
      return Vector(v.begin() + static_cast<std::ptrdiff_t>(first), v.end());
    };
    CHECK(before.logits[0] != after.logits[0]);
    CHECK(rest(before.logits, kClasses) == rest(after.logits, kClasses));
    CHECK(rest(before.dx, per_sample) == rest(after.dx, per_sample));
  }
}

TEST_CASE("Models that cannot be made are refused in a sentence", "[models]") {
  using Catch::Contains;
  CHECK_THROWS_WITH(make_model(tiny("resnet19")), Contains("resnet19") && Contains("cnn_small") &&
                                                      Contains("preact_resnet18_raw"));
  CHECK_THROWS_WITH(make_model(tiny("cnn_small", -1)), Contains("width") && Contains("-1"));
  ModelSpec spec = tiny("cnn_small");
  spec.std[1] = 0;
  CHECK_THROWS_WITH(make_model(spec), Contains("deviation of channel 1 is 0"));
  spec = tiny("cnn_small");
  spec.mean = {0.5f};
  CHECK_THROWS_WITH(make_model(spec), Contains("1 means") && Contains("3 channels"));
  spec = tiny("preact_resnet18");
  spec.height = 4;
  CHECK_THROWS_WITH(make_model(spec), Contains("at least 8 x 8"));
  spec = tiny("wrn_28_10_silu");
  spec.height = 10;
  CHECK_THROWS_WITH(make_model(spec), Contains("multiples of 4, got 10 x 8"));
  spec = tiny("cnn_small");
  spec.classes = 1;
  CHECK_THROWS_WITH(make_model(spec), Contains("at least 2 classes"));

  Exec exec({}, 1);
  Network net(exec, tiny("cnn_small"));
  net.shape.h = 9;
  net.pixels.assign(static_cast<size_t>(net.shape.count()), 0);
  CHECK_THROWS_WITH(net.run(Wrt::kNothing, BnMode::kRunning),
                    Contains("8 x 8 x 3") && Contains("(8, 9, 8, 3)"));
}

// Of the networks as published, in their original sizes.
TEST_CASE("Models have the published number of parameters", "[models]") {
  struct Published {
    const char* name;
    int64_t size, channels, classes, parameters;
  };
  for (const Published& known : {Published{"preact_resnet18", 32, 3, 10, 11172170},
                                 {"resnet18", 32, 3, 10, 11173962},
                                 {"resnet50", 224, 3, 1000, 25557032},
                                 {"wrn_28_10", 32, 3, 10, 36479194},
                                 {"wrn_34_10", 32, 3, 10, 46160474},
                                 {"wrn_28_10_silu", 32, 3, 10, 36479194},
                                 {"wrn_70_16_silu", 32, 3, 10, 266796506},
                                 {"mnist_net", 28, 1, 10, 166406}}) {
    INFO(known.name);
    ModelSpec spec;
    spec.name = known.name;
    spec.height = spec.image_width = known.size;
    spec.channels = known.channels;
    spec.classes = known.classes;
    const auto model = make_model(spec, {.device = {.planned = true}});
    CHECK(model->params().parameter_count() == known.parameters);
  }
}

TEST_CASE("A width of 0 takes the registry's default", "[models]") {
  for (const ModelEntry& entry : model_registry()) {
    const ModelSpec spec =
        make_model(tiny(std::string(entry.name), 0), {.device = {.planned = true}})->spec();
    CHECK(spec.width == entry.default_width);
  }
}

}  // namespace ringfort::testing
