// A data set that a small network learns in seconds, and a recipe for it: 8 x 8 images in four
// classes, which quarter is bright.
#pragma once

#include "adversarial/recipe.h"
#include "engine/data/dataset.h"
#include "kernels/philox.h"

namespace ringfort::test {

inline Dataset quarters(int64_t count, int channels = 1) {
  Dataset data;
  data.name = "quarters";
  data.count = count;
  data.height = data.width = 8;
  data.channels = channels;
  data.class_names = {"top left", "top right", "bottom left", "bottom right"};
  data.mean.assign(static_cast<size_t>(channels), 0.5f);
  data.std.assign(static_cast<size_t>(channels), 0.25f);
  const RandomKey key{99, Purpose::kTest, 0};
  const auto per_image = static_cast<uint32_t>(64 * channels);
  for (int64_t n = 0; n < count; ++n) {
    const auto label = static_cast<int32_t>(n % 4);
    data.labels.push_back(label);
    for (uint32_t i = 0; i < per_image; ++i) {
      const uint32_t pixel = i / static_cast<uint32_t>(channels);
      const uint32_t noise = key.word(static_cast<uint64_t>(n), i) % 120;
      const bool bright = static_cast<int32_t>(pixel / 32 * 2 + pixel % 8 / 4) == label;
      data.pixels.push_back(static_cast<uint8_t>(noise + (bright ? 100 : 0)));
    }
  }
  return data;
}

inline Recipe small_recipe() {
  Recipe recipe;
  recipe.model = "cnn_small";
  recipe.width = 4;
  recipe.method = "pgd-at";
  recipe.attack_steps = 2;
  recipe.eps = 0.1;
  recipe.epochs = 2;
  recipe.batch_size = 16;
  recipe.hold_out = 32;
  recipe.probe_every = 5;
  recipe.probe_samples = 16;
  recipe.val_attack_steps = 3;
  recipe.log_every = 4;
  recipe.lr = 0.05;
  recipe.augment = "crop-flip";
  recipe.crop_pad = 1;
  recipe.seed = 3;
  return recipe;
}

}  // namespace ringfort::test
