// The examples' images, 12 x 12 grey levels made in memory: noise, with a faint bright bar in one
// of four places, which is the class. Your own images take their place: bytes, rows of pixels from
// the top, channels innermost, image after image.
#pragma once

#include <random>

#include "engine/data/dataset.h"

inline ringfort::Dataset bars(int64_t count, unsigned seed) {
  ringfort::Dataset data;
  data.name = "bars";
  data.count = count;
  data.height = data.width = 12;
  data.channels = 1;
  data.class_names = {"top", "upper", "lower", "bottom"};
  data.mean = {0.37f};  // of the pixels in [0, 1]; a model's first layer subtracts it
  data.std = {0.2f};    // and divides by this
  std::mt19937 random(seed);
  for (int64_t n = 0; n < count; ++n) {
    const int label = static_cast<int>(random() % 4);
    for (int y = 0; y < data.height; ++y)
      for (int x = 0; x < data.width; ++x)
        data.pixels.push_back(static_cast<uint8_t>(random() % 140 + (y / 3 == label ? 100 : 0)));
    data.labels.push_back(label);
  }
  return data;
}
