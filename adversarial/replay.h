// What is found when one step of a training is taken apart (Trainer::replay).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/view.h"

namespace ringfort {

// A value of a pass in which not all numbers are finite.
struct NotFinite {
  std::string what;
  Shape shape;
  Dtype dtype = Dtype::kFloat32;
  int64_t count = 0;  // of numbers that are not
};

struct StepReplay {
  int64_t step = 0, epoch = 0;  // from 1
  double lr = 0;
  std::vector<int64_t> samples;  // data-set indices of the batch
  std::vector<double> losses;    // of each, under the training attack
  double gradient_norm = 0;
  bool counts = true;              // the step changes the weights; false where it is skipped
  std::optional<NotFinite> first;  // none: all values are finite

  double mean_loss() const;
};

}  // namespace ringfort
