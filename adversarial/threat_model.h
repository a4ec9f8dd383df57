// The threat model: which perturbations an adversary may make. Pixels are in [0, 1]; eps and step
// sizes are in the same units and are never divided by a data set's standard deviation
// (normalisation is the model's first layer).
#pragma once

#include <string_view>

namespace ringfort {

enum class Norm { kLinf, kL2 };

struct ThreatModel {
  Norm norm = Norm::kLinf;
  double eps = 8.0 / 255;  // radius of the ball around x_nat; float32 where kernels use it
  float lower = 0;         // box of valid pixels
  float upper = 1;
};

inline std::string_view to_string(Norm norm) { return norm == Norm::kLinf ? "Linf" : "L2"; }

}  // namespace ringfort
