// cuDNN is asked, without a GPU, whether it has an engine for each operation graph that the engine
// builds, on an H200 by its properties: a graph that no engine serves would only show on the GPU.
#include <catch2/catch.hpp>

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

// The convolutions of a pre-activation ResNet on CIFAR-10 that differ: stem, body, stride,
// shortcut.
struct Layer {
  Shape x;
  int64_t out;
  int kernel, stride;
};
constexpr Layer kLayers[] = {{{128, 32, 32, 3}, 64, 3, 1},
                             {{128, 32, 32, 64}, 64, 3, 1},
                             {{128, 32, 32, 64}, 128, 3, 2},
                             {{128, 32, 32, 64}, 128, 1, 2},
                             {{128, 4, 4, 512}, 512, 3, 1}};

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

void check_supported(const CudnnDevice& device, const ConvProblem& p, bool tensor_cores) {
  INFO(p.text() << (tensor_cores ? "" : ", without tensor cores"));
  CHECK(make_conv_graph(cudnn_problem(p)).graph.supported_by(device, tensor_cores) != "");
}

}  // namespace

TEST_CASE("cuDNN has an engine for every graph of ours on an H200", "[no-device]") {
  const CudnnDevice device{std::string(kH200)};
  // bfloat16 multiplies on tensor cores; float32 there only where TF32 is allowed.
  for (const auto& [dtype, tensor_cores] :
       {std::pair{Dtype::kBFloat16, true}, {Dtype::kFloat32, true}, {Dtype::kFloat32, false}})
    for (const Layer& layer : kLayers) {
      check_supported(device, problem_of(layer, ConvDirection::kForward, dtype), tensor_cores);
      check_supported(device, problem_of(layer, ConvDirection::kDgrad, dtype), tensor_cores);
      ConvProblem wgrad = problem_of(layer, ConvDirection::kWgrad, dtype);
      wgrad.result_dtype = Dtype::kFloat32;
      check_supported(device, wgrad, tensor_cores);
      wgrad.accumulate = true;
      check_supported(device, wgrad, tensor_cores);
      ConvProblem fused = problem_of(layer, ConvDirection::kForward, dtype);
      fused.bias = fused.relu = true;
      check_supported(device, fused, tensor_cores);
      ConvProblem residual = problem_of(layer, ConvDirection::kForward, dtype);
      residual.accumulate = true;
      check_supported(device, residual, tensor_cores);
      residual.normed = true;
      check_supported(device, residual, tensor_cores);
    }
}

TEST_CASE("cuDNN has an engine for every mask and gate of ours on an H200", "[no-device]") {
  const CudnnDevice device{std::string(kH200)};
  for (const Dtype dtype : {Dtype::kBFloat16, Dtype::kFloat32})
    for (const Layer& layer : kLayers) {
      ConvProblem rectified = problem_of(layer, ConvDirection::kForward, dtype);
      rectified.bias = rectified.relu = rectified.mask = true;
      check_supported(device, rectified, true);
      ConvProblem normed = problem_of(layer, ConvDirection::kForward, dtype);
      normed.accumulate = normed.normed = normed.normed_mask = true;
      check_supported(device, normed, true);
      normed.accumulate = false;
      check_supported(device, normed, true);
      if (layer.x.c == 3) continue;  // no gate leads to an image
      for (const bool scale : {false, true})
        for (const bool accumulate : {false, true}) {
          ConvProblem gated = problem_of(layer, ConvDirection::kDgrad, dtype);
          gated.gate_mask = true;
          gated.gate_scale = scale;
          gated.accumulate = accumulate;
          check_supported(device, gated, true);
        }
    }
}

TEST_CASE("whatever is asked of a product, cuDNN has an engine for some form of it",
          "[no-device]") {
  const CudnnDevice device{std::string(kH200)};
  // Without tensor cores there are no engines for masks and gates: kernels of ours follow.
  for (const Layer& layer : kLayers) {
    ConvProblem attacked = problem_of(layer, ConvDirection::kForward, Dtype::kFloat32);
    attacked.bias = attacked.relu = attacked.mask = true;
    ConvProblem gated = problem_of(layer, ConvDirection::kDgrad, Dtype::kFloat32);
    gated.gate_mask = gated.gate_scale = gated.accumulate = true;
    for (const ConvProblem& p : {attacked, gated}) {
      INFO(p.text());
      const ConvProblem given = cudnn_problem(p);
      CHECK(fusions(given).back() == ConvFusion::kNone);
      check_supported(device, fused_part(given, fusions(given).back()), false);
    }
  }
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
