// The ways in which oneDNN can compute one convolution product: which are offered for a shape, and
// how they are named. Nothing is built or measured here (conv2d_plan.h, conv2d_onednn.cpp).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/conv2d_epilogue.h"

namespace ringfort {

enum class ConvDirection : uint8_t { kForward, kDgrad, kWgrad };

// All that decides how a product is computed. x and y are the sides of the convolution, whichever
// is the result.
struct ConvProblem {
  ConvDirection direction = ConvDirection::kForward;
  Dtype dtype = Dtype::kFloat32;         // of the operands
  Dtype result_dtype = Dtype::kFloat32;  // dtype, or float32 from bfloat16
  Layout x_layout = Layout::kChannelsLast, y_layout = Layout::kChannelsLast;
  Shape x, filter, y;
  ConvOptions options;
  bool bias = false, accumulate = false, relu = false;
  // What a fused graph of cuDNN can do besides; a residual, too, is `accumulate`.
  bool mask = false, normed = false, normed_mask = false;  // outputs of a forward product
  bool gate_mask = false, gate_scale = false;              // of an input gradient
  bool tf32 = false;                                       // float32 operands may be rounded
  int threads = 1;
  int force_id = 0;  // PlanCache::force_id()

  using Key = std::array<int64_t, 21>;
  Key key() const;  // for look-up
  // The product alone, to which others add.
  ConvProblem bare() const;
  // For plan files: "forward float32 n128 h32 w32 c64 -> o64 k3 s1 p1 blocked16 relu threads2".
  // Samples are rounded up to a power of two, so that the batches of an attack that drops beaten
  // samples share one measurement.
  std::string text() const;
  double gflop() const;  // positions in the padding count as computed
};

// The problem that a call of conv2d_* poses, for every backend.
ConvProblem forward_problem(const View& y, const View& x, const Filter& filter, ConvOptions options,
                            const ProductEpilogue& epilogue);
ConvProblem forward_problem(const View& y, const View& x, const Filter& filter, ConvOptions options,
                            const ConvEpilogue& epilogue);
ConvProblem dgrad_problem(const View& dx, const View& dy, const Filter& filter, ConvOptions options,
                          const DgradEpilogue& epilogue = {});
ConvProblem wgrad_problem(const View& dw, const View& x, const View& dy, ConvOptions options,
                          bool accumulate);

enum class ConvFormat : uint8_t {
  kAsView,   // the layout of the caller's view
  kBlocked,  // blocks of 16 channels (all channels of a pixel plane by plane where they are fewer);
             // views are copied where they differ
  kAny,      // what oneDNN likes best, likewise
};

struct ConvCandidate {
  std::string name;  // begins with "direct" or "winograd"
  bool winograd = false;
  // dgrad as a forward convolution of dy with the filter turned by 180 degrees, its channels
  // exchanged: its transformed filter can be prepared ahead, where oneDNN's backward Winograd
  // transforms it at each call.
  bool rotated = false;
  // dgrad to 16 channels, of which the first are kept: to 1 or 3 channels oneDNN has nothing but a
  // plain loop.
  bool padded = false;
  ConvFormat format = ConvFormat::kAsView;
};

// In order of preference. Some may be refused by oneDNN when they are built.
std::vector<ConvCandidate> conv_candidates(const ConvProblem& problem);

}  // namespace ringfort
