#include "engine/data/resample.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr int kBits = 22;  // 8 bits of pixel and 2 to spare for sums: 32 altogether

uint8_t to_byte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

// One row of `from` (pixels from `left` on) to `to`.
void resample_row(const uint8_t* from, int64_t left, const AxisWeights& columns, bool mirrored,
                  uint8_t* to) {
  for (int64_t x = 0; x < columns.count; ++x) {
    const uint8_t* pixel = from + 3 * (columns.start[static_cast<size_t>(x)] - left);
    const int32_t* weight = columns.weights.data() + x * columns.taps;
    int32_t red = 1 << (kBits - 1), green = red, blue = red;
    const int32_t used = columns.used[static_cast<size_t>(x)];
    for (int32_t t = 0; t < used; ++t, pixel += 3) {
      red += weight[t] * pixel[0];
      green += weight[t] * pixel[1];
      blue += weight[t] * pixel[2];
    }
    uint8_t* out = to + 3 * (mirrored ? columns.count - 1 - x : x);
    out[0] = to_byte(red);
    out[1] = to_byte(green);
    out[2] = to_byte(blue);
  }
}

// The weighted sum of `used` rows of `bytes` bytes. In parts that stay in registers.
void blend_rows(const uint8_t* from, const int32_t* weight, int32_t used, int64_t bytes,
                uint8_t* to) {
  constexpr int64_t kPart = 64;
  for (int64_t begin = 0; begin < bytes; begin += kPart) {
    const int64_t size = std::min(kPart, bytes - begin);
    std::array<int32_t, kPart> sums;
    sums.fill(1 << (kBits - 1));
    const uint8_t* row = from + begin;
    for (int32_t t = 0; t < used; ++t, row += bytes) {
      if (size == kPart)
        for (int64_t i = 0; i < kPart; ++i) sums[static_cast<size_t>(i)] += weight[t] * row[i];
      else
        for (int64_t i = 0; i < size; ++i) sums[static_cast<size_t>(i)] += weight[t] * row[i];
    }
    for (int64_t i = 0; i < size; ++i) to[begin + i] = to_byte(sums[static_cast<size_t>(i)]);
  }
}

}  // namespace

void bilinear_weights(const ResampleAxis& axis, AxisWeights& weights) {
  require(axis.low < axis.high && axis.begin < axis.end && axis.first >= 0 && axis.count >= 1 &&
              axis.first + axis.count <= axis.out,
          "resample: pixels {} to {} become {} of {}", axis.begin, axis.end, axis.count, axis.out);
  const double scale = (axis.end - axis.begin) / static_cast<double>(axis.out);
  const double support = std::max(scale, 1.0);
  const int64_t pixels = axis.high - axis.low;
  weights.count = axis.count;
  weights.taps = 2 * static_cast<int64_t>(std::ceil(support)) + 1;
  weights.start.resize(static_cast<size_t>(axis.count));
  weights.used.resize(static_cast<size_t>(axis.count));
  weights.weights.assign(static_cast<size_t>(axis.count * weights.taps), 0);
  std::vector<double> triangle(static_cast<size_t>(weights.taps));
  for (int64_t i = 0; i < axis.count; ++i) {
    const double centre = axis.begin - static_cast<double>(axis.low) +
                          (static_cast<double>(axis.first + i) + 0.5) * scale;
    const auto low = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
    const auto high = std::min(static_cast<int64_t>(centre + support + 0.5), pixels);
    double sum = 0;
    for (int64_t t = 0; t < high - low; ++t) {
      const double distance = std::fabs((static_cast<double>(low + t) - centre + 0.5) / support);
      sum += triangle[static_cast<size_t>(t)] = std::max(1 - distance, 0.0);
    }
    weights.start[static_cast<size_t>(i)] = axis.low + low;
    weights.used[static_cast<size_t>(i)] = static_cast<int32_t>(high - low);
    for (int64_t t = 0; t < high - low; ++t)
      weights.weights[static_cast<size_t>(i * weights.taps + t)] =
          static_cast<int32_t>(0.5 + triangle[static_cast<size_t>(t)] / sum * (1 << kBits));
  }
}

void resample(const Image& image, const AxisWeights& rows, const AxisWeights& columns,
              bool mirrored, uint8_t* out, std::vector<uint8_t>& between) {
  const Region& there = image.region;
  require(rows.low() >= there.top && rows.high() <= there.bottom() && columns.low() >= there.left &&
              columns.high() <= there.right(),
          "resample: rows {} to {}, columns {} to {} are needed and not all there", rows.low(),
          rows.high(), columns.low(), columns.high());
  const int64_t row_bytes = 3 * columns.count;
  between.resize(static_cast<size_t>((rows.high() - rows.low()) * row_bytes));
  for (int64_t y = rows.low(); y < rows.high(); ++y)
    resample_row(image.row(y), there.left, columns, mirrored,
                 between.data() + (y - rows.low()) * row_bytes);
  for (int64_t y = 0; y < rows.count; ++y)
    blend_rows(between.data() + (rows.start[static_cast<size_t>(y)] - rows.low()) * row_bytes,
               rows.weights.data() + y * rows.taps, rows.used[static_cast<size_t>(y)], row_bytes,
               out + y * row_bytes);
}

}  // namespace ringfort
