// What a network sees of a picture: a square of `size` pixels, cropped at random for training or
// from the centre for evaluation. The choices are torchvision's (RandomResizedCrop with its
// defaults and RandomHorizontalFlip; Resize and CenterCrop), the random numbers are a function of
// (seed, epoch, sample).
#pragma once

#include "engine/data/image.h"
#include "engine/data/resample.h"
#include "kernels/philox.h"

namespace ringfort {

struct ImageTransform {
  int size = 224;
  // Otherwise: the shorter side becomes size / 0.875 (256 for 224), then the centre.
  bool random_resized_crop = false;
  uint64_t seed = 0;
  uint32_t epoch = 0;
};

struct RandomCrop {
  Region region;
  bool mirrored = false;
};

// A share of 0.08 to 1 of the area with a width of 3/4 to 4/3 of the height, uniform in area, in
// the logarithm of the ratio and in place; the centre with the nearest ratio where ten tries do not
// fit. Mirrored with probability 1/2.
RandomCrop random_resized_crop(const ImageSize& size, const RandomKey& key, int64_t sample);

// Decodes, crops and resizes image after image in memory that is used again; one per thread.
class ImagePipeline {
 public:
  // out (size, size, 3). A JPEG of which a random crop has at least twice the pixels a side is
  // decoded at 1/2, 1/4 or 1/8, which is never less than `size`; for evaluation always in full.
  // Errors: as ImageReader's.
  void run(std::span<const uint8_t> bytes, const std::string& name, const ImageTransform& transform,
           int64_t sample, uint8_t* out);

 private:
  Image image_;
  AxisWeights rows_, columns_;
  ResampleScratch scratch_;
};

}  // namespace ringfort
