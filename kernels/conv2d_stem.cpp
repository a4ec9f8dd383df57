#include "kernels/conv2d_stem.h"

#include <algorithm>

namespace ringfort {
namespace {

// 16 output channels side by side: one AVX-512 register, or what the compiler makes of it.
using Lanes = float __attribute__((vector_size(64)));

struct Geometry {
  int64_t height, width, channels_out, kernel_h, kernel_w, pad;
  int64_t out_h, out_w;
};

float sum(const Lanes& lanes) {
  float half[8];
  for (int l = 0; l < 8; ++l) half[l] = lanes[l] + lanes[l + 8];
  for (int l = 0; l < 4; ++l) half[l] += half[l + 4];
  return (half[0] + half[2]) + (half[1] + half[3]);
}

// dx(h, w, c) = sum over taps (i, j) and output channels o of dy(h + pad - i, w + pad - j, o)
// filter(o, i, j, c). dy: one sample, blocks of 16 channels. taps: (i, j, c, O).
template <int kChannels>
void stem_row(float* dx, const float* dy, const Lanes* taps, int64_t h, const Geometry& g) {
  const int64_t blocks = g.channels_out / 16, plane = g.out_h * g.out_w;
  const auto* source = reinterpret_cast<const Lanes*>(dy);
  for (int64_t w = 0; w < g.width; ++w) {
    Lanes total[kChannels] = {};
    for (int64_t i = 0; i < g.kernel_h; ++i) {
      const int64_t row = h + g.pad - i;
      if (row < 0 || row >= g.out_h) continue;
      const int64_t first = std::max<int64_t>(0, w + g.pad - g.out_w + 1);
      const int64_t last = std::min(g.kernel_w - 1, w + g.pad);
      for (int64_t j = first; j <= last; ++j) {
        const Lanes* from = source + row * g.out_w + (w + g.pad - j);
        const Lanes* tap = taps + (i * g.kernel_w + j) * kChannels * blocks;
        for (int64_t block = 0; block < blocks; ++block)
          for (int c = 0; c < kChannels; ++c)
            total[c] += from[block * plane] * tap[c * blocks + block];
      }
    }
    for (int c = 0; c < kChannels; ++c) dx[w * kChannels + c] = sum(total[c]);
  }
}

template <int kChannels>
void stem(Exec& exec, View dx, View dy, const View& w, const Geometry& g) {
  auto* taps = static_cast<float*>(exec.scratch(w.bytes()));
  const int64_t count = g.kernel_h * g.kernel_w * kChannels;
  for (int64_t o = 0; o < g.channels_out; ++o)
    for (int64_t k = 0; k < count; ++k)
      taps[k * g.channels_out + o] = w.as<const float>()[o * count + k];

  const int64_t sample = g.channels_out * g.out_h * g.out_w;
#pragma omp parallel for schedule(static) num_threads(exec.threads())
  for (int64_t row = 0; row < dx.shape.n * g.height; ++row)
    stem_row<kChannels>(dx.as<float>() + row * g.width * kChannels,
                        dy.as<const float>() + row / g.height * sample,
                        reinterpret_cast<const Lanes*>(taps), row % g.height, g);
}

}  // namespace

bool has_stem_dgrad(const View& dx, const View& dy, const View& w, ConvOptions options) {
  return dx.dtype == Dtype::kFloat32 && dy.dtype == Dtype::kFloat32 && w.dtype == Dtype::kFloat32 &&
         dx.shape.c <= 4 && dx.layout == Layout::kChannelsLast && dy.layout == Layout::kBlocked16 &&
         options.stride == 1 && reinterpret_cast<uintptr_t>(dy.data) % 64 == 0;
}

void conv2d_dgrad_stem(Exec& exec, View dx, View dy, const View& w, ConvOptions options) {
  const Geometry g{dx.shape.h, dx.shape.w,  w.shape.n,  w.shape.h,
                   w.shape.w,  options.pad, dy.shape.h, dy.shape.w};
  switch (dx.shape.c) {
    case 1:
      return stem<1>(exec, dx, dy, w, g);
    case 2:
      return stem<2>(exec, dx, dy, w, g);
    case 3:
      return stem<3>(exec, dx, dy, w, g);
    default:
      return stem<4>(exec, dx, dy, w, g);
  }
}

}  // namespace ringfort
