// The convolutions that tests go through: odd sizes, strides, few channels, both layouts.
#pragma once

#include <string>
#include <vector>

#include "kernels/conv2d.h"
#include "tests/arrays.h"

namespace ringfort {

struct ConvCase {
  int64_t samples, height, width, inputs, outputs, kernel;
  int stride, pad, pad_end = -1;

  Shape x() const { return {samples, height, width, inputs}; }
  Shape filter() const { return {outputs, kernel, kernel, inputs}; }
  Shape y() const { return conv2d_shape(x(), filter(), options()); }
  ConvOptions options() const { return {stride, pad, pad_end}; }
};

inline const ConvCase kCases[] = {
    {3, 9, 7, 1, 16, 3, 1, 1},    // first layer, one channel
    {1, 12, 12, 3, 32, 3, 1, 1},  // first layer, RGB
    {3, 8, 8, 3, 16, 3, 2, 1},
    {1, 5, 6, 4, 10, 3, 1, 0},
    {3, 7, 7, 4, 4, 3, 2, 1},
    {1, 6, 6, 3, 4, 1, 1, 0},
    {3, 8, 8, 3, 5, 1, 2, 0},
    {3, 8, 8, 4, 16, 1, 2, 0},
    {2, 7, 5, 3, 5, 3, 1, 1},
    {3, 8, 8, 16, 32, 3, 1, 1},
    {1, 13, 11, 32, 16, 3, 1, 1},
    {1, 10, 9, 16, 16, 3, 1, 0},
    {3, 9, 9, 32, 32, 3, 2, 1},
    {3, 8, 8, 48, 16, 1, 1, 0},
    {1, 8, 8, 32, 16, 1, 2, 0},
    {1, 7, 7, 48, 10, 3, 1, 1},
    {1, 6, 6, 5, 16, 3, 1, 1},
    {1, 9, 9, 16, 16, 5, 1, 2},
    {1, 17, 14, 3, 16, 7, 2, 3},  // the ImageNet stem
    {3, 8, 10, 1, 16, 4, 2, 1},   // an even filter
    // "same" padding of stride 2, and of an even filter: more on one side
    {3, 8, 9, 16, 32, 3, 2, 0, 1},
    {1, 7, 6, 16, 16, 2, 1, 0, 1},
    {1, 8, 8, 3, 16, 4, 1, 1, 2},
};

inline std::string name_of(const ConvCase& c) {
  return fmt::format("{} * {} stride {} pad {} to {}", to_string(c.x()), to_string(c.filter()),
                     c.stride, c.pad, c.options().end());
}

inline std::vector<Layout> layouts_for(int64_t channels) {
  if (channels % 16 != 0) return {Layout::kChannelsLast};
  return {Layout::kChannelsLast, Layout::kBlocked16};
}

}  // namespace ringfort
