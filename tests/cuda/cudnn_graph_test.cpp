// cuDNN is asked, without a GPU, whether it has an engine for each operation graph that the engine
// builds, on an H200 by its properties: a graph that no engine serves would only show on the GPU.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>

#include "adversarial/training_step.h"
#include "kernels/conv2d_cudnn.h"
#include "kernels/norm_graph_cudnn.h"

namespace ringfort {
namespace {

// As cuDNN prints them; written by hand from NVIDIA's data sheets, and to be compared with a real
// device's.
constexpr const char* kH200 =
    R"({"cudaDeviceId":0,"deviceVer":900,"driverVer":13000,"totalGlobalMem":150754820096,)"
    R"("maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,)"
    R"("multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,)"
    R"("maxSharedMemoryPerBlockOptin":232448,"reservedSharedMemoryPerBlock":1024,)"
    R"("maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,)"
    R"("maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,)"
    R"("smClockRateKHz":1980000,"memClockRateKHz":3201000,"l2CacheSize":62914560,)"
    R"("deviceName":"NVIDIA H200"})";

// Some convolutions of a pre-activation ResNet on CIFAR-10: stem and body.
struct Layer {
  Shape x;
  int64_t out;
  int kernel, stride;
};
constexpr Layer kLayers[] = {{{128, 32, 32, 3}, 64, 3, 1}, {{128, 32, 32, 64}, 64, 3, 1}};

ConvProblem problem_of(const Layer& layer, ConvDirection direction, Dtype dtype) {
  ConvProblem p;
  p.direction = direction;
  p.dtype = p.result_dtype = dtype;
  p.x = layer.x;
  p.filter = {layer.out, layer.kernel, layer.kernel, layer.x.c};
  p.options = {layer.stride, layer.kernel / 2};
  p.y = conv2d_shape(p.x, p.filter, p.options);
  return p;
}

// p: a cudnn_problem.
void check_supported(const CudnnDevice& device, const ConvProblem& p, bool tensor_cores) {
  INFO(p.text() << (tensor_cores ? "" : ", without tensor cores"));
  CHECK(make_conv_graph(p).graph.supported_by(device, tensor_cores) != "");
}

// What of a problem decides whether there is an engine for it: all but how many pixels and
// channels, of which only matters whether they fill 16 bytes.
ConvProblem::Key kind_of(ConvProblem p) {
  for (int64_t* channels : {&p.x.c, &p.filter.c, &p.y.c, &p.filter.n})
    *channels = *channels % 8 == 0;
  for (Shape* shape : {&p.x, &p.y}) shape->n = shape->h = shape->w = 1;
  return p.key();
}

// Goes through one step of training and one evaluation on a planned GPU.
void rehearse(Exec& exec, const std::string& model_name, const TrainingMethod& method,
              Dtype dtype) {
  const Device device = exec.device();
  const bool small = model_name != "resnet50", grey = model_name == "mnist_net";
  ModelSpec spec;
  spec.name = model_name;
  spec.channels = grey ? 1 : 3;
  spec.height = spec.image_width = small ? (grey ? 28 : 32) : 224;
  const auto model =
      make_model(spec, {.bfloat16_copy = dtype == Dtype::kBFloat16, .device = device});
  Pool pool(device);
  constexpr int64_t kImages = 128;
  AttackInput batch;
  batch.x_nat =
      Tensor(pool, {kImages, spec.height, spec.image_width, spec.channels}, Dtype::kFloat32);
  batch.labels = Tensor(pool, vector_shape(kImages), Dtype::kInt32);
  batch.samples = Tensor(pool, vector_shape(kImages), Dtype::kInt64);
  TrainingStep step(exec, *model, method, {}, dtype);
  step.run(batch, {{.lr = 0.1}});
  Pass evaluation(exec, pool, model->params(), {.dtype = dtype});
  model->forward(evaluation, evaluation.input(batch.x_nat));
}

// One convolution of each kind that training and evaluation ask for, by method, model and dtype.
std::map<ConvProblem::Key, ConvProblem> rehearsed_convolutions() {
  std::map<ConvProblem::Key, ConvProblem> kinds;
  Exec exec({.kind = DeviceKind::kCuda, .planned = true});
  exec.on_convolution = [&](const ConvProblem& asked) { kinds.try_emplace(kind_of(asked), asked); };
  for (const Dtype dtype : {Dtype::kBFloat16, Dtype::kFloat32})
    for (const char* model : {"cnn_small", "mnist_net", "preact_resnet18", "preact_resnet18_raw",
                              "resnet18", "resnet50", "wrn_34_10", "wrn_28_10_silu"})
      for (const AttackBn bn : {AttackBn::kEval, AttackBn::kTrain}) {
        AttackOptions attack = bn == AttackBn::kEval ? trades({}, 1, 0.01) : pgd({}, 1, 0.01);
        attack.bn = bn;
        attack.dtype = dtype;
        OuterLoss outer;
        if (bn == AttackBn::kEval) outer.kind = OuterLossKind::kTrades;
        rehearse(exec, model, {attack, outer}, dtype);
      }
  return kinds;
}

}  // namespace

TEST_CASE("cuDNN has an engine for every convolution that our models ask for on an H200",
          "[no-device]") {
  const CudnnDevice device{std::string(kH200)};
  for (const auto& [key, asked] : rehearsed_convolutions()) {
    const ConvProblem given = cudnn_problem(asked);
    INFO("like " << asked.text());
    // bfloat16 multiplies on tensor cores.
    if (asked.dtype == Dtype::kBFloat16) {
      check_supported(device, given, true);
      continue;
    }
    // Float32 there only where TF32 is allowed. Elsewhere there are no engines for masks and gates:
    // kernels of ours follow.
    check_supported(device, given, true);
    const bool bits = asked.mask || asked.normed_mask || asked.gate_mask;
    check_supported(device, bits ? fused_part(given, fusions(given).back()) : given, false);
    if (bits) CHECK(fusions(given).back() == ConvFusion::kNone);
  }
}

TEST_CASE("the rehearsal meets what an attack and a training pass fuse", "[no-device]") {
  const auto met = [all = rehearsed_convolutions()](const auto& is) {
    return std::any_of(all.begin(), all.end(), [&](const auto& one) { return is(one.second); });
  };
  CHECK(met([](const ConvProblem& p) { return p.bias && p.relu && p.mask; }));
  CHECK(met([](const ConvProblem& p) { return p.accumulate && p.normed && p.normed_mask; }));
  CHECK(met([](const ConvProblem& p) { return p.bias && p.accumulate && p.relu && p.mask; }));
  CHECK(met([](const ConvProblem& p) { return p.gate_mask && p.gate_scale && p.accumulate; }));
  CHECK(met([](const ConvProblem& p) { return p.gate_mask && !p.gate_scale && !p.accumulate; }));
  for (const bool accumulate : {false, true})
    CHECK(met([&](const ConvProblem& p) {
      return p.direction == ConvDirection::kWgrad && p.accumulate == accumulate;
    }));
}

TEST_CASE("a plan's name says how much is fused", "[no-device]") {
  for (const ConvFusion fusion : {ConvFusion::kAll, ConvFusion::kProduct, ConvFusion::kNone}) {
    CHECK(engine_of("", fusion) == "");  // no plan in particular
    for (const ConvFusion other : {ConvFusion::kAll, ConvFusion::kProduct, ConvFusion::kNone}) {
      const std::string name = "eng7 k2=4" + std::string(suffix_of(fusion));
      if (other == fusion)
        CHECK(engine_of(name, other) == "eng7 k2=4");
      else
        CHECK_FALSE(engine_of(name, other));
    }
  }
}

TEST_CASE("cuDNN has an engine for every batch norm of ours on an H200", "[no-device]") {
  const CudnnDevice device{std::string(kH200)};
  const auto check = [&](const NormProblem& p) {
    INFO(p.text());
    CHECK(make_norm_graph(p).graph.supported_by(device, true) != "");
  };
  for (const Dtype dtype : {Dtype::kBFloat16, Dtype::kFloat32})
    for (const Shape& x : {Shape{128, 32, 32, 64}, Shape{128, 4, 4, 512}}) {
      NormProblem p;
      p.dtype = dtype;
      p.x = x;
      check(p);
      p.relu = p.mask = true;
      check(p);
      p.residual = true;
      check(p);
      p.relu = p.mask = p.residual = false;
      p.backward = true;
      check(p);
    }
}

TEST_CASE("cuDNN refuses what our graphs take care not to ask of it", "[no-device]") {
  const CudnnDevice device{std::string(kH200)};
  const ConvProblem p = problem_of(kLayers[1], ConvDirection::kWgrad, Dtype::kBFloat16);
  CudnnGraph bare;  // without the multiplication by one that make_conv_graph adds
  const CudnnTensor dw = bare.tensor(p.filter, Dtype::kFloat32);
  bare.conv_wgrad(dw, bare.tensor(p.x, p.dtype), bare.tensor(p.y, p.dtype), p.options);
  CHECK(bare.supported_by(device, true) == "");

  ConvProblem stem = problem_of(kLayers[0], ConvDirection::kWgrad, Dtype::kBFloat16);
  stem.result_dtype = Dtype::kFloat32;
  CHECK(make_conv_graph(stem).graph.supported_by(device, true) == "");  // 3 channels, not padded

  // Masks without tensor cores: the choice leaves them to kernels of ours.
  ConvProblem rectified = problem_of(kLayers[1], ConvDirection::kForward, Dtype::kFloat32);
  rectified.bias = rectified.relu = rectified.mask = true;
  CHECK(make_conv_graph(rectified).graph.supported_by(device, false) == "");
}

TEST_CASE("a stem is padded to 8 channels in bfloat16, a filter's gradient is added outside",
          "[no-device]") {
  const ConvProblem stem =
      cudnn_problem(problem_of(kLayers[0], ConvDirection::kForward, Dtype::kBFloat16));
  CHECK(stem.x == Shape{128, 32, 32, 8});
  CHECK(stem.filter == Shape{64, 3, 3, 8});
  CHECK(stem.y.c == 64);
  CHECK(cudnn_problem(problem_of(kLayers[0], ConvDirection::kForward, Dtype::kFloat32)).x.c == 3);
  ConvProblem wgrad = problem_of(kLayers[1], ConvDirection::kWgrad, Dtype::kFloat32);
  wgrad.accumulate = true;
  CHECK_FALSE(cudnn_problem(wgrad).accumulate);
  ConvProblem gated = problem_of(kLayers[0], ConvDirection::kDgrad, Dtype::kBFloat16);
  gated.gate_scale = gated.accumulate = true;
  CHECK_FALSE(cudnn_problem(gated).gate_scale);
  CHECK_FALSE(cudnn_problem(gated).accumulate);
  gated.dtype = gated.result_dtype = Dtype::kFloat32;  // not padded
  CHECK(cudnn_problem(gated).gate_scale);
  CHECK(cudnn_problem(wgrad).x == wgrad.x);
}

}  // namespace ringfort
