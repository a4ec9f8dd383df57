// Labels for images without any, by a trained model: its answer to the image as it is.
#pragma once

#include <functional>
#include <string>

#include "engine/data/pseudo_labels.h"
#include "models/model.h"

namespace ringfort {

struct PseudoLabelOptions {
  int64_t batch_size = 250;
  Norms norms = Norms::kMain;
  std::function<void(int64_t done)> progress = {};       // images; may be empty
  std::function<void(const std::string&)> message = {};  // may be empty
};

// The model's class for each image of `data`, by running statistics in float32, and its
// probability; of images in files the centre. One that cannot be decoded gets the label of the one
// that stands in for it, and confidence 0. Labels that `data` has are not looked at. Errors: images
// that the model does not take; logits that are not finite.
PseudoLabels pseudo_label(Exec& exec, Pool& pool, Model& model, const Dataset& data,
                          const PseudoLabelOptions& options = {});

}  // namespace ringfort
