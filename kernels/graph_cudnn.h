// A cuDNN operation graph: a convolution or a norm and what is fused with it, described by named
// functions; then the engine configurations that cuDNN's heuristics offer for it, and plans made of
// them. A thin layer over cuDNN's backend API (cudnn_backend.h), which needs no GPU until a plan is
// run: a graph's support on a device can be asked with that device's properties alone.
#pragma once

#include <cudnn.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/conv2d.h"

namespace ringfort {

// Errors: the call that failed and cuDNN's reason, with its last message.
void check(cudnnStatus_t status, const char* call);

// One backend descriptor: attributes are set, then it is finalised.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type);

  template <class T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
           std::span<const T> values) {
    set_raw(name, type, static_cast<int64_t>(values.size()), values.data());
  }
  template <class T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    set_raw(name, type, 1, &value);
  }
  void set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value);
  void set(cudnnBackendAttributeName_t name, std::span<const CudnnDescriptor> values);

  // What cuDNN says to it: CUDNN_STATUS_NOT_SUPPORTED is an answer, not an error, for plans.
  cudnnStatus_t try_finalize();
  void finalize(const char* what);

  cudnnBackendDescriptor_t get() const { return descriptor_.get(); }

 private:
  void set_raw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
               const void* values);

  struct Destroy {
    void operator()(void* descriptor) const;
  };
  std::shared_ptr<void> descriptor_;  // shared: plans keep what they are made of
};

// The device a graph is asked for: the current one of a handle, or one that is only described.
class CudnnDevice {
 public:
  explicit CudnnDevice(cudnnHandle_t handle) : handle_(handle) {}
  // properties: cuDNN's JSON of a device (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION).
  explicit CudnnDevice(const std::string& properties);

  // Names what a descriptor is for, by the attributes it has for a handle and for a device.
  void attach(CudnnDescriptor& descriptor, std::optional<cudnnBackendAttributeName_t> handle_name,
              std::optional<cudnnBackendAttributeName_t> device_name) const;

 private:
  cudnnHandle_t handle_ = nullptr;
  std::vector<CudnnDescriptor> properties_;  // one, or none where there is a handle
};

// A tensor of a graph, by the number under which its data are given when a plan runs.
struct CudnnTensor {
  int64_t id = 0;
};

// One way to run a graph.
struct CudnnPlan {
  CudnnDescriptor plan;
  std::string name;  // engine and knobs, stable over runs of one version of cuDNN
  int64_t workspace = 0;
};

class CudnnGraph {
 public:
  // All activations (N, H, W, C), channels last; filters (O, kH, kW, I) likewise. A virtual tensor
  // exists inside a fused kernel only.
  CudnnTensor tensor(const Shape& shape, Dtype dtype);
  CudnnTensor virtual_tensor(const Shape& shape, Dtype dtype);
  // C values, one per channel, beside tensors of C channels.
  CudnnTensor channels(int64_t count, Dtype dtype);
  // One float32 number, the same for all elements, given by value when a plan runs.
  CudnnTensor number();

  void conv_forward(CudnnTensor y, CudnnTensor x, CudnnTensor w, ConvOptions options);
  void conv_dgrad(CudnnTensor dx, CudnnTensor dy, CudnnTensor w, ConvOptions options);
  void conv_wgrad(CudnnTensor dw, CudnnTensor x, CudnnTensor dy, ConvOptions options);
  // Batch norm by statistics of x: y = gamma (x - mean) inv_std + beta, and those statistics, C
  // values each. epsilon: a number().
  struct Norm {
    CudnnTensor y, mean, inv_std, x, gamma, beta, epsilon;
  };
  void batch_norm(const Norm& norm);
  // Its gradients, the statistics being functions of x.
  struct NormGradients {
    CudnnTensor dx, dgamma, dbeta, x, dy, mean, inv_std, gamma;
  };
  void batch_norm_backward(const NormGradients& norm);
  // out = mode(a) or mode(a, b), in float32.
  void pointwise(cudnnPointwiseMode_t mode, CudnnTensor out, CudnnTensor a);
  void pointwise(cudnnPointwiseMode_t mode, CudnnTensor out, CudnnTensor a, CudnnTensor b);

  // At most `most` plans for the device, in the order of the heuristics, or the one that is named.
  // Left out: engines that add in an order of their own (reruns must be bit-identical) and, where
  // tensor_cores is false, those that round float32 operands to TF32.
  std::vector<CudnnPlan> plans(const CudnnDevice& device, int most, bool tensor_cores,
                               const std::string& name = "") const;

  // The first configuration that would become such a plan on a device that is only described, ""
  // where there is none. Kernels that are compiled at run time are compiled, which takes a second,
  // and count although no driver is there to load them.
  std::string supported_by(const CudnnDevice& device, bool tensor_cores) const;

 private:
  CudnnTensor add_tensor(const Shape& shape, Dtype dtype, bool is_virtual, bool by_value = false);
  // Calls visit(plan, status of its making) for each configuration, or those of one name, until it
  // returns false.
  void each_plan(const CudnnDevice& device, bool tensor_cores, const std::string& name,
                 const std::function<bool(CudnnPlan&, cudnnStatus_t)>& visit) const;
  const CudnnDescriptor& descriptor(CudnnTensor tensor) const {
    return tensors_[static_cast<size_t>(tensor.id) - 1];
  }

  std::vector<CudnnDescriptor> tensors_, operations_;
};

// Runs a plan; data[i] belongs to ids[i].
void run(cudnnHandle_t handle, const CudnnPlan& plan, std::span<const int64_t> ids,
         std::span<void* const> data, void* workspace);

}  // namespace ringfort
