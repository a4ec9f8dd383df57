// ResNets with the activation before the convolutions (He et al., "Identity Mappings in Deep
// Residual Networks", 2016): a stem of one 3x3 convolution, stages of blocks
// x + conv2(relu(norm2(conv1(relu(norm1(x)))))), a final norm-ReLU, global average pooling and a
// linear classifier.
//
// preact_resnet18 has four stages of two blocks with width, 2, 4 and 8 width channels. Two networks
// go by this name in the adversarial-training literature. They differ in where a block's projection
// shortcut starts: after the block's first norm-ReLU (He et al.; Rice et al. 2020), or from its raw
// input (the code of Wong et al. 2020). Both are here under their own names.
//
// wrn_28_10 and wrn_34_10 are wide ResNets (Zagoruyko and Komodakis 2016) as TRADES (Zhang et al.
// 2019) defines and initialises them: a stem of 16 channels whatever the width, three stages of 4
// or 5 blocks with width, 2 and 4 width channels; width is 16 times the widening factor.
#pragma once

#include <string_view>

#include "models/layers.h"
#include "models/model.h"

namespace ringfort {

// The names of parameters in the PyTorch definition that an architecture is known by.
struct PreActNames {
  std::string_view stem;
  std::string_view block;  // a format of stage and index
  int first_stage;
  std::string_view norm1, conv1, norm2, conv2, shortcut;  // within a block
  std::string_view final_norm, classifier;
};

struct PreActDesign {
  enum class Shortcut { kAfterNorm, kRawInput };  // where a projection starts
  Shortcut shortcut;
  int stages, blocks;  // stage s has `blocks` blocks of width << s channels
  int stem;            // channels; 0: width
  PreActNames names;
  InitScheme init;
  bool silu = false;          // in place of ReLU
  bool same_padding = false;  // TensorFlow's, of 3x3 convolutions with stride 2
  float momentum = 0.1f;      // of the norms' statistics
};

inline constexpr PreActNames kPreActResNetNames = {
    "conv1", "layer{}.{}", 1, "bn1", "conv1", "bn2", "conv2", "shortcut.0", "bn", "linear"};
inline constexpr PreActNames kTradesNames = {
    "conv1", "block{}.layer.{}", 1, "bn1", "conv1", "bn2", "conv2", "convShortcut", "bn1", "fc"};
inline constexpr InitScheme kTradesInit = {.filter = Init::kHeFanOut, .matrix_bias = Init::kZero};

inline constexpr PreActDesign kPreActResNet18 = {
    PreActDesign::Shortcut::kAfterNorm, 4, 2, 0, kPreActResNetNames, {}};
inline constexpr PreActDesign kPreActResNet18Raw = {
    PreActDesign::Shortcut::kRawInput, 4, 2, 0, kPreActResNetNames, {}};
inline constexpr PreActDesign kWideResNet28 = {
    PreActDesign::Shortcut::kAfterNorm, 3, 4, 16, kTradesNames, kTradesInit};
inline constexpr PreActDesign kWideResNet34 = {
    PreActDesign::Shortcut::kAfterNorm, 3, 5, 16, kTradesNames, kTradesInit};

inline constexpr PreActNames kDeepMindNames = {
    "init_conv", "layer.{}.block.{}", 0,           "batchnorm_0", "conv_0", "batchnorm_1",
    "conv_1",    "shortcut",          "batchnorm", "logits"};
inline constexpr InitScheme kHaikuInit = {
    .filter = Init::kTruncatedFanIn, .matrix = Init::kZero, .matrix_bias = Init::kZero};
inline constexpr PreActDesign kWideResNet28Silu = {
    PreActDesign::Shortcut::kAfterNorm, 3, 4, 16, kDeepMindNames, kHaikuInit, true, true, 0.01f};
inline constexpr PreActDesign kWideResNet70Silu = {
    PreActDesign::Shortcut::kAfterNorm, 3, 11, 16, kDeepMindNames, kHaikuInit, true, true, 0.01f};

class PreActResNet final : public Model {
 public:
  PreActResNet(ModelSpec spec, Dtype master, const PreActDesign& design);

 private:
  struct Unit {
    NormParams norm1, norm2;
    ConvParams conv1, conv2;
    ConvParams projection;  // weight kNone where the shortcut is the identity
  };
  Unit declare(LayerBuilder& build, const std::string& name, int64_t in, int64_t out,
               int stride) const;
  Var body(Pass& p, Var x) override;
  // The pieces of a block with the design's activation: act(norm(x * w)), and the sum x * w
  // (+ residual) with act(norm(sum)).
  Var conv_norm_act(Pass& p, Var x, const ConvParams& conv, const NormParams& norm) const;
  SumAndNormed conv_act(Pass& p, Var x, const ConvParams& conv, Var* residual,
                        const NormParams& norm) const;
  SumAndNormed unit(Pass& p, SumAndNormed in, const Unit& block, const NormParams& next);

  PreActDesign design_;
  ConvParams stem_;
  std::vector<Unit> units_;
  NormParams final_norm_;
  LinearParams classifier_;
};

}  // namespace ringfort
