// Whole networks against PyTorch: logits, input gradients, and weights and running statistics after
// two steps of SGD, from the same weights. The vectors in tests/data come from PyTorch in float64
// (tools/peer/parity.py --vectors tests/data).
#include <catch2/catch.hpp>

#include "adversarial/attack_steps.h"
#include "engine/optimizer.h"
#include "engine/safetensors.h"
#include "models/checkpoint.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using Values = std::vector<double>;

const std::filesystem::path kFolder = RINGFORT_TEST_DATA;
constexpr std::array kModels = {"cnn_small", "mnist_net",     "preact_resnet18",
                                "resnet18",  "resnet50",      "preact_resnet18_raw",
                                "wrn_28_10", "wrn_28_10_silu"};

Values values_of(const NamedArray& array) {
  const size_t size = array.dtype == "F32" ? 4 : 8;
  Values values(array.bytes.size() / size);
  for (size_t i = 0; i < values.size(); ++i) {
    const std::byte* at = array.bytes.data() + i * size;
    float single;
    int64_t integer;
    if (array.dtype == "F32") {
      std::memcpy(&single, at, 4);
      values[i] = static_cast<double>(single);
    } else if (array.dtype == "I64") {
      std::memcpy(&integer, at, 8);
      values[i] = static_cast<double>(integer);
    } else {
      std::memcpy(&values[i], at, 8);
    }
  }
  return values;
}

Values values_of(const View& view) {
  Values values(static_cast<size_t>(view.count()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = detail::load_element<double>(view, static_cast<int64_t>(i));
  return values;
}

// A filter (O, kH, kW, I), or the matrix of a flattened image, in the order of PyTorch's
// (O, I, kH, kW).
Values in_file_order(const View& view) {
  const Values values = values_of(view);
  const Shape& s = view.shape;
  Values ordered;
  for (int64_t o = 0; o < s.n; ++o)
    for (int64_t i = 0; i < s.c; ++i)
      for (int64_t hw = 0; hw < s.h * s.w; ++hw)
        ordered.push_back(values[static_cast<size_t>((o * s.h * s.w + hw) * s.c + i)]);
  return ordered;
}

// A model of the checkpoint in tests/data with its images and labels, all in `dtype`.
struct Case {
  Case(const std::string& name, Dtype dtype_in)
      : dtype(dtype_in),
        expected(load_safetensors(kFolder / ("parity-" + name + "-expected.safetensors"))),
        model(load_checkpoint(exec, kFolder / ("parity-" + name + ".safetensors"),
                              {.master = dtype_in})
                  .model) {
    const Values pixels = values_of(expected.at("x")), classes = values_of(expected.at("labels"));
    const ModelSpec& spec = model->spec();
    const Shape shape{static_cast<int64_t>(classes.size()), spec.height, spec.image_width,
                      spec.channels};
    REQUIRE(static_cast<int64_t>(pixels.size()) == shape.count());
    x = Tensor(pool, shape, dtype);
    labels = Tensor(pool, vector_shape(shape.n), Dtype::kInt32);
    for (size_t i = 0; i < pixels.size(); ++i)
      detail::store_element(x, static_cast<int64_t>(i), pixels[i]);
    for (size_t i = 0; i < classes.size(); ++i)
      labels.as<int32_t>()[i] = static_cast<int32_t>(classes[i]);
  }

  void check_close(const Values& values, const std::string& name, double tolerance) const {
    INFO(model->spec().name << ", " << to_string(dtype) << ", " << name);
    CHECK(testing::relative_error(values, values_of(expected.at(name))) <= tolerance);
  }

  Dtype dtype;
  Exec exec{{}, 2};
  Pool pool;
  SafetensorsFile expected;
  std::unique_ptr<Model> model;
  Tensor x, labels;
};

// One step on the mean loss, as the training loop does it.
void train_step(Case& c, Sgd& sgd, double lr) {
  Pass p(c.exec, c.pool, c.model->params(), {Wrt::kParams, BnMode::kBatchAndUpdate, c.dtype});
  const Var logits = c.model->forward(p, p.input(c.x));
  Loss loss = cross_entropy(p, logits, c.labels, 1.0 / static_cast<double>(c.x.shape().n));
  p.backward(logits, std::move(loss.dlogits));
  sgd.step(c.exec, lr);
}

void check_against_pytorch(const std::string& name, Dtype dtype, double tolerance) {
  Case c(name, dtype);
  for (const AttackBn bn : {AttackBn::kEval, AttackBn::kTrain}) {
    AttackOptions attack;
    attack.bn = bn;
    attack.dtype = dtype;
    const std::string mode(to_string(bn));
    {
      Pass p(c.exec, c.pool, c.model->params(), attack_pass(attack));
      c.check_close(values_of(c.model->forward(p, p.input(c.x)).value), mode + ".logits",
                    tolerance);
    }
    const InputGradient g = input_gradient(c.exec, c.pool, *c.model, attack, c.x, c.labels);
    c.check_close(values_of(g.dx), mode + ".dx", tolerance);
  }

  ParamStore& params = c.model->params();
  Sgd sgd(params, {.momentum = 0.875, .weight_decay = 1.0 / 1024});
  for (int step = 0; step < 2; ++step) train_step(c, sgd, 0.125);
  for (size_t i = 0; i < params.segments().size(); ++i) {
    const Segment& segment = params.segments()[i];
    const View master = params.master(static_cast<ParamId>(i));
    c.check_close(in_file_order(master), "trained." + segment.name, tolerance);
  }
  for (size_t i = 0; i < params.statistics().size(); ++i)
    c.check_close(values_of(params.statistic(static_cast<StatId>(i))),
                  "trained." + params.statistics()[i].name, tolerance);
}

}  // namespace

TEST_CASE("parity with PyTorch, float64: logits, input gradients, two steps of SGD") {
  for (const char* name : kModels) check_against_pytorch(name, Dtype::kFloat64, 1e-10);
}

// No value before a ReLU is so near 0 that float32 turns its sign.
TEST_CASE("parity with PyTorch, float32: logits, input gradients, two steps of SGD") {
  for (const char* name : kModels) check_against_pytorch(name, Dtype::kFloat32, 1e-4);
}

}  // namespace ringfort
