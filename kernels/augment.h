// From stored bytes to pixels in [0, 1]: /255, and optionally a random crop of the zero-padded
// image, a horizontal flip, and cutout, a square of zeros. DeVries and Taylor (2017) cut after the
// normalisation, where 0 is the mean pixel; here normalisation is the model's, and 0 is black. What
// happens to a sample depends on (seed, epoch, its index in the data set) alone.
#pragma once

#include "kernels/exec.h"
#include "kernels/philox.h"

namespace ringfort {

struct PadCropFlip {
  int pad = 0;        // zeros on each side before cropping back to the original size; 0: no crop
  bool flip = false;  // mirror with probability 1/2
  RandomKey key;
  int cutout = 0;  // side of the square, whose centre is anywhere in the image; 0: none

  struct Choice {
    int64_t dy, dx;  // where the crop starts, relative to the unpadded image: [-pad, pad]
    bool mirrored;
    // Of the cut out square, in the result; it may reach beyond it.
    int64_t top = 0, left = 0;
  };
  HD Choice choose(int64_t sample) const {
    const Philox4 random = key.words(static_cast<uint64_t>(sample), 0);
    const uint64_t positions = 2 * static_cast<uint64_t>(pad) + 1;
    // multiply-shift: the bias of 2^-32 per position is far below what any training could see
    const auto position = [&](uint32_t word) {
      return static_cast<int64_t>(word * positions >> 32) - pad;
    };
    return {position(random.word[0]), position(random.word[1]), flip && (random.word[2] & 1u) != 0};
  }
  // With the square, for images of this size.
  HD Choice choose(int64_t sample, int64_t height, int64_t width) const {
    Choice choice = choose(sample);
    if (cutout == 0) return choice;
    const Philox4 random = key.words(static_cast<uint64_t>(sample), 1);
    const auto centre = [](uint32_t word, int64_t size) {
      return static_cast<int64_t>(word * static_cast<uint64_t>(size) >> 32);
    };
    choice.top = centre(random.word[0], height) - cutout / 2;
    choice.left = centre(random.word[1], width) - cutout / 2;
    return choice;
  }
};

// x (N, H, W, C) float32, channels last, from bytes (M, H, W, C). samples (N): data-set indices.
enum class ImageOrder {
  kBatch,    // M = N: image n of `bytes` is sample n
  kDataset,  // `bytes` is the whole data set: image samples[n]
};
void pad_crop_flip(Exec& exec, View x, View bytes, const int64_t* samples,
                   const PadCropFlip& augment, ImageOrder order = ImageOrder::kBatch);

}  // namespace ringfort
