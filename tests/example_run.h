// A small run, with the records a trainer would tell and an evaluation, for the tests of what
// writes and reads run folders.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "adversarial/evaluation.h"
#include "tools/run_folder.h"

namespace ringfort::test {

inline Recipe example_recipe() {
  Recipe recipe;
  recipe.data_dir = "images";
  recipe.eps = 8.0 / 255;
  recipe.epochs = 2;
  return recipe;
}

// 8 samples, 3 classes: 7 right at first, 5 under attack; two examples of 2 x 3 RGB pixels.
inline Evaluation example_evaluation() {
  Evaluation e;
  e.model = "cnn_small";
  e.width = 16;
  e.dataset = "shapes";
  e.class_names = {"disc", "<b>box</b>", "star & co"};
  e.height = 2, e.image_width = 3, e.channels = 3;
  e.attack = "pgd", e.norm = "Linf";
  e.eps = 8.0 / 255, e.alpha = 2.0 / 255;
  e.steps = 50, e.restarts = 10, e.seed = 18446744073709551615u;
  e.dtype = "float32", e.attack_bn = "eval";
  e.n = 8;
  e.clean_accuracy = 7.0 / 8, e.robust_accuracy = 5.0 / 8;
  e.labels = {0, 1, 2, 0, 1, 2, 0, 1};
  e.clean_predictions = {0, 1, 2, 0, 1, 2, 0, 2};
  e.adversarial_predictions = {0, 1, 2, 0, 1, 0, 1, 2};
  e.clean_correct = {1, 1, 1, 1, 1, 1, 1, 0};
  e.robust_correct = {1, 1, 1, 1, 1, 0, 0, 0};
  e.seconds = 83.5, e.version = "9.8.7", e.checkpoint = "best.safetensors", e.data_dir = "images";
  for (const int64_t sample : {5, 6}) {
    AdversarialExample x{sample,
                         e.labels[size_t(sample)],
                         e.clean_predictions[size_t(sample)],
                         e.adversarial_predictions[size_t(sample)],
                         {},
                         {}};
    for (int i = 0; i < 18; ++i) {
      x.x_nat.push_back(float(i) / 17);
      x.x_adv.push_back(std::clamp(x.x_nat.back() + float(i % 2 == 0 ? e.eps : -e.eps), 0.f, 1.f));
    }
    e.examples.push_back(x);
  }
  return e;
}

// Discards the lines for people.
inline std::FILE* quiet() {
  static const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  return file.get();
}

inline void train_a_little(RunFolder& run) {
  run.on_start("a header <with> brackets");
  StepRecord step;
  step.total_steps = 20;
  step.seconds = 4;
  step.images_per_second = 1234;
  step.phases = {0.001, 0.5, 0.25, 0.002};
  step.memory = 210'000'000;
  for (step.step = 10; step.step <= 20; step.step += 10) {
    step.epoch = double(step.step) / 10;
    step.loss = step.step == 10 ? std::nan("") : 0.75;
    step.probe_accuracy = 0.5;
    run.on_step(step);
  }
  run.on_epoch({1, 10, 1.25, 0.5, 0.625, 0.375, 0.1, 1200, 2.5, true});
  run.on_epoch({2, 20, 0.75, 0.6, 0.8125, 0.4375, 0.05, 1300, 5.5, false});
  run.on_message("the probe fell");
}

}  // namespace ringfort::test
