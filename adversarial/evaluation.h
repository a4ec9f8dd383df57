// The result of attacking a trained model: what `ringfort evaluate` writes and the report shows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ringfort {

// An image beside its adversarial version; pixels (H, W, C) in [0, 1].
struct AdversarialExample {
  int64_t sample = 0;  // index in the test set
  int32_t label = 0;
  int32_t clean_prediction = 0;
  int32_t adversarial_prediction = 0;
  std::vector<float> x_nat;
  std::vector<float> x_adv;
};

struct Evaluation {
  std::string model;
  int width = 0;
  std::string dataset;
  std::vector<std::string> class_names;
  int height = 0, image_width = 0, channels = 0;

  std::string attack;  // "pgd", "fgsm", "fgsm-rs"
  std::string norm;    // "Linf", "L2"
  double eps = 0;
  double alpha = 0;
  int steps = 0;
  int restarts = 0;
  uint64_t seed = 0;
  std::string dtype;  // of the attack
  std::string attack_bn;
  std::string norms;  // "main", "auxiliary": which of two sets of batch norms; empty: there is one

  int64_t n = 0;
  double clean_accuracy = 0;
  double robust_accuracy = 0;
  std::vector<int32_t> labels;                   // n
  std::vector<int32_t> clean_predictions;        // n
  std::vector<int32_t> adversarial_predictions;  // n, from a clean forward pass on the final x_adv
  std::vector<uint8_t> clean_correct;            // n, 0 or 1
  std::vector<uint8_t> robust_correct;           // n, 0 or 1

  double seconds = 0;
  std::string version;
  std::string checkpoint;                    // file name of the weights
  std::string data_dir;                      // where the test set was read
  std::vector<AdversarialExample> examples;  // a few, for the report
};

}  // namespace ringfort
