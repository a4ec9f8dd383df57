#include "engine/data/resample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr int kBits = 22;  // 8 bits of pixel and 2 to spare for sums: 32 altogether

uint8_t to_byte(int32_t sum) { return static_cast<uint8_t>(std::min(sum >> kBits, 255)); }

// The columns are resized four rows at a time: a pixel's red, green, blue and a byte to spare of
// each row side by side.
constexpr int64_t kRows = 4;
using Lanes = int32_t __attribute__((vector_size(64)));
using Bytes = uint8_t __attribute__((vector_size(16)));

// `pixels` pixels of each row.
void interleave(const std::array<const uint8_t*, kRows>& rows, int64_t pixels, Bytes* to) {
  auto* out = reinterpret_cast<uint8_t*>(to);
  for (int64_t r = 0; r < kRows; ++r) {
    const uint8_t* from = rows[static_cast<size_t>(r)];
    // Four bytes where there are four.
    for (int64_t x = 0; x + 1 < pixels; ++x) std::memcpy(out + 16 * x + 4 * r, from + 3 * x, 4);
    std::memcpy(out + 16 * (pixels - 1) + 4 * r, from + 3 * (pixels - 1), 3);
  }
}

// pixels: interleaved, from columns.low() on.
void resample_rows(const Bytes* pixels, const AxisWeights& columns, bool mirrored,
                   const std::array<uint8_t*, kRows>& to) {
  for (int64_t x = 0; x < columns.count; ++x) {
    const Bytes* pixel = pixels + (columns.start[static_cast<size_t>(x)] - columns.low());
    const int32_t* weight = columns.weights.data() + x * columns.taps;
    const int32_t used = columns.used[static_cast<size_t>(x)];
    Lanes sums = Lanes{} + (1 << (kBits - 1));
    for (int32_t t = 0; t < used; ++t) sums += weight[t] * __builtin_convertvector(pixel[t], Lanes);
    sums >>= kBits;
    const Bytes bytes = __builtin_convertvector(sums > 255 ? Lanes{} + 255 : sums, Bytes);
    const int64_t at = 3 * (mirrored ? columns.count - 1 - x : x);
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t c = 0; c < 3; ++c) to[static_cast<size_t>(r)][at + c] = bytes[4 * r + c];
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
              bool mirrored, uint8_t* out, ResampleScratch& scratch) {
  const Region& there = image.region;
  require(rows.low() >= there.top && rows.high() <= there.bottom() && columns.low() >= there.left &&
              columns.high() <= there.right(),
          "resample: rows {} to {}, columns {} to {} are needed and not all there", rows.low(),
          rows.high(), columns.low(), columns.high());
  const int64_t row_bytes = 3 * columns.count, height = rows.high() - rows.low();
  scratch.between.resize(static_cast<size_t>(height * row_bytes));
  scratch.interleaved.resize(static_cast<size_t>(16 * (columns.high() - columns.low())));
  auto* interleaved = reinterpret_cast<Bytes*>(scratch.interleaved.data());
  uint8_t* between = scratch.between.data();
  for (int64_t y = 0; y < height; y += kRows) {
    std::array<const uint8_t*, kRows> from;
    std::array<uint8_t*, kRows> to;
    for (int64_t r = 0; r < kRows; ++r) {
      const int64_t row = std::min(y + r, height - 1);  // the last ones perhaps several times
      from[static_cast<size_t>(r)] = image.row(rows.low() + row) + 3 * (columns.low() - there.left);
      to[static_cast<size_t>(r)] = between + row * row_bytes;
    }
    interleave(from, columns.high() - columns.low(), interleaved);
    resample_rows(interleaved, columns, mirrored, to);
  }
  for (int64_t y = 0; y < rows.count; ++y)
    blend_rows(between + (rows.start[static_cast<size_t>(y)] - rows.low()) * row_bytes,
               rows.weights.data() + y * rows.taps, rows.used[static_cast<size_t>(y)], row_bytes,
               out + y * row_bytes);
}

}  // namespace ringfort
