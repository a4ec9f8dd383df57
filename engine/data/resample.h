// Bilinear resizing of pixels with antialiasing: when it shrinks, the triangle filter widens to
// cover all pixels that an output pixel stands for. Fixed-point weights of 22 bits, columns first,
// rounded to bytes in between: byte for byte what PIL.Image.resize(BILINEAR) and with it
// torchvision's transforms on PIL images give. The two axes are described by weights, so that who
// calls knows which pixels must be decoded.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/data/image.h"

namespace ringfort {

// Along one axis, the interval [begin, end) of input pixels becomes `out` output pixels, of which
// [first, first + count) are wanted. Only input pixels [low, high) are read.
struct ResampleAxis {
  double begin = 0, end = 0;
  int64_t low = 0, high = 0;
  int64_t out = 0, first = 0, count = 0;
};

// Output pixel i is the sum of weights[i * taps + t] * input[start[i] + t], t < used[i], / 2^22.
struct AxisWeights {
  int64_t count = 0, taps = 0;
  std::vector<int64_t> start;
  std::vector<int32_t> used;
  std::vector<int32_t> weights;

  // The input pixels that are read: [low, high).
  int64_t low() const { return start.front(); }
  int64_t high() const { return start.back() + used.back(); }
};

// Writes over `weights`, whose memory is used again.
void bilinear_weights(const ResampleAxis& axis, AxisWeights& weights);

struct ResampleScratch {
  std::vector<uint8_t> between, interleaved;
};

// out (rows.count, columns.count, 3), mirrored left to right where asked. `image` holds all pixels
// that the weights read; `scratch` is memory to use again.
void resample(const Image& image, const AxisWeights& rows, const AxisWeights& columns,
              bool mirrored, uint8_t* out, ResampleScratch& scratch);

}  // namespace ringfort
