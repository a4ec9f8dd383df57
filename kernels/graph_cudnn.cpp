#include "kernels/graph_cudnn.h"

#include <algorithm>
#include <array>

namespace ringfort {
namespace {

cudnnDataType_t type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32:
      return CUDNN_DATA_FLOAT;
    case Dtype::kBFloat16:
      return CUDNN_DATA_BFLOAT16;
    case Dtype::kBit:
      return CUDNN_DATA_BOOLEAN;
    default:
      fail("cuDNN: no convolution in {}", to_string(dtype));
  }
}

// Two spatial dimensions, as cuDNN's attributes want them.
CudnnDescriptor convolution(ConvOptions options) {
  CudnnDescriptor conv(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const int64_t stride = options.stride, pad = options.pad, end = options.end();
  const std::array<int64_t, 2> strides = {stride, stride}, pads = {pad, pad}, ends = {end, end},
                               ones = {1, 1};
  const auto pair = [&](cudnnBackendAttributeName_t name, const std::array<int64_t, 2>& values) {
    conv.set(name, CUDNN_TYPE_INT64, std::span<const int64_t>(values));
  };
  conv.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, int64_t{2});
  conv.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  conv.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
  pair(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, strides);
  pair(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, pads);
  pair(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, ends);
  pair(CUDNN_ATTR_CONVOLUTION_DILATIONS, ones);
  conv.finalize("convolution");
  return conv;
}

// The attributes in which the three convolution operations differ.
struct ConvNames {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t conv, alpha, beta, x, w, y;
};
constexpr ConvNames kForward = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y};
constexpr ConvNames kDgrad = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY};
constexpr ConvNames kWgrad = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY};

CudnnDescriptor conv_operation(const ConvNames& names, const CudnnDescriptor& x,
                               const CudnnDescriptor& w, const CudnnDescriptor& y,
                               ConvOptions options) {
  CudnnDescriptor operation(names.type);
  operation.set(names.conv, convolution(options));
  operation.set(names.x, x);
  operation.set(names.w, w);
  operation.set(names.y, y);
  operation.set(names.alpha, CUDNN_TYPE_FLOAT, 1.0f);
  operation.set(names.beta, CUDNN_TYPE_FLOAT, 0.0f);
  operation.finalize("convolution operation");
  return operation;
}

template <class T>
std::vector<T> attributes(const CudnnDescriptor& descriptor, cudnnBackendAttributeName_t name,
                          cudnnBackendAttributeType_t type, int64_t most) {
  std::vector<T> values(static_cast<size_t>(most));
  int64_t count = 0;
  check(cudnnBackendGetAttribute(descriptor.get(), name, type, most, &count, values.data()),
        "cudnnBackendGetAttribute");
  values.resize(static_cast<size_t>(std::min(count, most)));
  return values;
}

// What the heuristics offer, best first.
std::vector<CudnnDescriptor> engine_configs(const CudnnDescriptor& graph, const CudnnDevice& device,
                                            cudnnBackendHeurMode_t mode) {
  CudnnDescriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  device.attach(heuristics, std::nullopt, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
  if (heuristics.try_finalize() != CUDNN_STATUS_SUCCESS) return {};
  int64_t count = 0;
  check(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
        "cudnnBackendGetAttribute(results)");
  std::vector<CudnnDescriptor> configs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < count; ++i)
    raw.push_back(configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).get());
  check(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count, raw.data()),
        "cudnnBackendGetAttribute(results)");
  configs.resize(static_cast<size_t>(count), CudnnDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
  return configs;
}

struct Engine {
  std::string name;  // "eng7 k2=4 k19=0"
  bool deterministic, tensor_cores;
};

Engine describe(const CudnnDescriptor& config) {
  CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.get();
  int64_t count = 0;
  check(cudnnBackendGetAttribute(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &raw),
        "cudnnBackendGetAttribute(engine)");
  const auto index =
      attributes<int64_t>(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1);
  const auto notes = attributes<cudnnBackendNumericalNote_t>(
      engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
      CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
  std::string name = fmt::format("eng{}", index.empty() ? -1 : index[0]);

  constexpr int64_t kMostKnobs = CUDNN_KNOB_TYPE_COUNTS;
  std::vector<CudnnDescriptor> knobs;
  std::vector<cudnnBackendDescriptor_t> raw_knobs;
  for (int64_t i = 0; i < kMostKnobs; ++i)
    raw_knobs.push_back(knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR).get());
  check(
      cudnnBackendGetAttribute(config.get(), CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                               CUDNN_TYPE_BACKEND_DESCRIPTOR, kMostKnobs, &count, raw_knobs.data()),
      "cudnnBackendGetAttribute(knobs)");
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    const auto type = attributes<cudnnBackendKnobType_t>(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
                                                         CUDNN_TYPE_KNOB_TYPE, 1);
    const auto value =
        attributes<int64_t>(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1);
    name += fmt::format(" k{}={}", static_cast<int>(type.at(0)), value.at(0));
  }
  const auto has = [&](cudnnBackendNumericalNote_t note) {
    return std::find(notes.begin(), notes.end(), note) != notes.end();
  };
  return {name, !has(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC), has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE)};
}

}  // namespace

void check(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> message{};
  cudnnGetLastErrorString(message.data(), message.size());
  fail("{}: {} ({})", call, cudnnGetErrorString(status), message.data());
}

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t raw = nullptr;
  check(cudnnBackendCreateDescriptor(type, &raw), "cudnnBackendCreateDescriptor");
  descriptor_ = std::shared_ptr<void>(raw, Destroy{});
}

void CudnnDescriptor::Destroy::operator()(void* descriptor) const {
  cudnnBackendDestroyDescriptor(descriptor);
}

void CudnnDescriptor::set_raw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                              int64_t count, const void* values) {
  check(cudnnBackendSetAttribute(get(), name, type, count, values), "cudnnBackendSetAttribute");
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
  const cudnnBackendDescriptor_t raw = value.get();
  set_raw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw);
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t name,
                          std::span<const CudnnDescriptor> values) {
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const CudnnDescriptor& value : values) raw.push_back(value.get());
  set_raw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(raw.size()), raw.data());
}

cudnnStatus_t CudnnDescriptor::try_finalize() { return cudnnBackendFinalize(get()); }

void CudnnDescriptor::finalize(const char* what) {
  check(try_finalize(), fmt::format("cudnnBackendFinalize({})", what).c_str());
}

CudnnDevice::CudnnDevice(const std::string& properties) {
  CudnnDescriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  device.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
             std::span<const char>(properties.c_str(), properties.size() + 1));
  device.finalize("device properties");
  properties_.push_back(device);
}

void CudnnDevice::attach(CudnnDescriptor& descriptor,
                         std::optional<cudnnBackendAttributeName_t> handle_name,
                         std::optional<cudnnBackendAttributeName_t> device_name) const {
  if (!properties_.empty()) {
    if (device_name) descriptor.set(*device_name, properties_[0]);
  } else if (handle_name) {
    descriptor.set(*handle_name, CUDNN_TYPE_HANDLE, handle_);
  }
}

CudnnTensor CudnnGraph::add_tensor(const Shape& s, Dtype dtype, bool is_virtual, bool by_value) {
  CudnnDescriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const std::array<int64_t, 4> dims = {s.n, s.c, s.h, s.w},
                               strides = {s.h * s.w * s.c, 1, s.w * s.c, s.c};
  const auto id = static_cast<int64_t>(tensors_.size()) + 1;
  tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type_of(dtype));
  tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, std::span<const int64_t>(dims));
  tensor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, std::span<const int64_t>(strides));
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
  tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, int64_t{16});
  if (is_virtual) tensor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, true);
  if (by_value) tensor.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, true);
  tensor.finalize("tensor");
  tensors_.push_back(tensor);
  return {id};
}

CudnnTensor CudnnGraph::tensor(const Shape& shape, Dtype dtype) {
  return add_tensor(shape, dtype, false);
}
CudnnTensor CudnnGraph::virtual_tensor(const Shape& shape, Dtype dtype) {
  return add_tensor(shape, dtype, true);
}
CudnnTensor CudnnGraph::channels(int64_t count, Dtype dtype) {
  return add_tensor({1, 1, 1, count}, dtype, false);
}
CudnnTensor CudnnGraph::number() { return add_tensor({1, 1, 1, 1}, Dtype::kFloat32, false, true); }

void CudnnGraph::conv_forward(CudnnTensor y, CudnnTensor x, CudnnTensor w, ConvOptions options) {
  operations_.push_back(
      conv_operation(kForward, descriptor(x), descriptor(w), descriptor(y), options));
}
void CudnnGraph::conv_dgrad(CudnnTensor dx, CudnnTensor dy, CudnnTensor w, ConvOptions options) {
  operations_.push_back(
      conv_operation(kDgrad, descriptor(dx), descriptor(w), descriptor(dy), options));
}
void CudnnGraph::conv_wgrad(CudnnTensor dw, CudnnTensor x, CudnnTensor dy, ConvOptions options) {
  operations_.push_back(
      conv_operation(kWgrad, descriptor(x), descriptor(dw), descriptor(dy), options));
}

void CudnnGraph::batch_norm(const Norm& norm) {
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_MODE, CUDNN_TYPE_NORM_MODE, CUDNN_BATCH_NORM);
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_TYPE_NORM_FWD_PHASE,
                CUDNN_NORM_FWD_TRAINING);
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, descriptor(norm.x));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, descriptor(norm.mean));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, descriptor(norm.inv_std));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, descriptor(norm.gamma));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, descriptor(norm.beta));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, descriptor(norm.epsilon));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, descriptor(norm.y));
  operation.finalize("norm operation");
  operations_.push_back(operation);
}

void CudnnGraph::batch_norm_backward(const NormGradients& norm) {
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_MODE, CUDNN_TYPE_NORM_MODE, CUDNN_BATCH_NORM);
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, descriptor(norm.x));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, descriptor(norm.mean));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, descriptor(norm.inv_std));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, descriptor(norm.dy));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, descriptor(norm.gamma));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, descriptor(norm.dgamma));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, descriptor(norm.dbeta));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, descriptor(norm.dx));
  operation.finalize("norm backward operation");
  operations_.push_back(operation);
}

void CudnnGraph::pointwise(cudnnPointwiseMode_t mode, CudnnTensor out, CudnnTensor a) {
  pointwise(mode, out, a, CudnnTensor{});
}

void CudnnGraph::pointwise(cudnnPointwiseMode_t mode, CudnnTensor out, CudnnTensor a,
                           CudnnTensor b) {
  CudnnDescriptor how(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  how.finalize("pointwise");
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, descriptor(a));
  if (b.id != 0) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, descriptor(b));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, descriptor(out));
  operation.finalize("pointwise operation");
  operations_.push_back(operation);
}

void CudnnGraph::each_plan(const CudnnDevice& device, bool tensor_cores, const std::string& name,
                           const std::function<bool(CudnnPlan&, cudnnStatus_t)>& visit) const {
  CudnnDescriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, std::span<const CudnnDescriptor>(operations_));
  device.attach(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, std::nullopt);
  if (graph.try_finalize() != CUDNN_STATUS_SUCCESS) return;
  // The fallback engines are for graphs that the others refuse.
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    for (const CudnnDescriptor& config : engine_configs(graph, device, mode)) {
      const Engine engine = describe(config);
      if (!engine.deterministic || (engine.tensor_cores && !tensor_cores)) continue;
      if (!name.empty() && engine.name != name) continue;
      CudnnPlan plan{CudnnDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR), engine.name};
      plan.plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
      device.attach(plan.plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE,
                    CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
      if (!visit(plan, plan.plan.try_finalize())) return;
    }
}

std::vector<CudnnPlan> CudnnGraph::plans(const CudnnDevice& device, int most, bool tensor_cores,
                                         const std::string& name) const {
  std::vector<CudnnPlan> plans;
  each_plan(device, tensor_cores, name, [&](CudnnPlan& plan, cudnnStatus_t status) {
    if (status != CUDNN_STATUS_SUCCESS) return true;
    plan.workspace = attributes<int64_t>(plan.plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                         CUDNN_TYPE_INT64, 1)
                         .at(0);
    plans.push_back(std::move(plan));
    return static_cast<int>(plans.size()) < most;
  });
  return plans;
}

std::string CudnnGraph::supported_by(const CudnnDevice& device, bool tensor_cores) const {
  std::string name;
  each_plan(device, tensor_cores, "", [&](CudnnPlan& plan, cudnnStatus_t status) {
    if (status == CUDNN_STATUS_SUCCESS || status == CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER)
      name = plan.name;
    return name.empty();
  });
  return name;
}

void run(cudnnHandle_t handle, const CudnnPlan& plan, std::span<const int64_t> ids,
         std::span<void* const> data, void* workspace) {
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, data);
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
  pack.finalize("variant pack");
  check(cudnnBackendExecute(handle, plan.plan.get(), pack.get()), "cudnnBackendExecute");
}

}  // namespace ringfort
