// Labels that a trained model has given to images without labels of their own (self-training;
// Carmon et al. 2019, Zhang et al. 2022), and the data set in which such images stand beside
// labelled ones. Who gives them: adversarial/pseudo_label.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/data/dataset.h"

namespace ringfort {

struct PseudoLabels {
  std::string dataset;  // name of the data set they are for
  int64_t classes = 0;
  std::vector<int32_t> labels;    // of each of its training images, in [0, classes)
  std::vector<float> confidence;  // probability of the label, in [0, 1]
};

// One safetensors file: labels (int32), confidence (float32), and what they are for. metadata: what
// else is to stand in it.
void save_pseudo_labels(const std::filesystem::path& path, const PseudoLabels& made,
                        std::map<std::string, std::string> metadata = {});
// Errors, naming the file: it is not such a file, or its numbers are not possible ones.
PseudoLabels load_pseudo_labels(const std::filesystem::path& path);

// `labelled`, and after its images those of `others` with the labels that were made for them:
// sample numbers of the one stay, those of the others begin where they end. Trained on are those of
// at least least_confidence (Dataset::pseudo_samples). Errors: images of another size or number of
// channels, other classes, labels made for another data set, none that is confident enough.
Dataset with_pseudo_labels(Dataset labelled, Dataset others, const PseudoLabels& made,
                           double least_confidence = 0);

}  // namespace ringfort
