#include "kernels/winograd_filter.h"

namespace ringfort {
namespace {

constexpr int kBlock = 16, kAlpha = 6;
using Lanes = float __attribute__((vector_size(64)));  // 16 output channels

// Interpolation points 0, +-5/8, +-3/2 and infinity, scaled as oneDNN's transforms of data and
// result expect.
constexpr float kG[kAlpha][3] = {
    {1.13777777777778f, 0.0f, 0.0f},
    {-0.688403361344538f, -0.430252100840336f, -0.26890756302521f},
    {-0.688403361344538f, 0.430252100840336f, -0.26890756302521f},
    {0.119514472455649f, 0.179271708683473f, 0.26890756302521f},
    {0.119514472455649f, -0.179271708683473f, 0.26890756302521f},
    {0.0f, 0.0f, 1.0f},
};

// g[tap][i][o] of 16 x 16 channels: the innermost index is the output channel of the convolution
// that will run.
using Taps = float[9][kBlock][kBlock];

void gather(Taps& g, const float* w, bool rotated, const WinogradOrder& order, int64_t o0,
            int64_t i0) {
  for (int tap = 0; tap < 9; ++tap)
    for (int i = 0; i < kBlock; ++i)
      for (int o = 0; o < kBlock; ++o)
        g[tap][i][o] = rotated ? w[((i0 + i) * 9 + 8 - tap) * order.outputs + o0 + o]
                               : w[((o0 + o) * 9 + tap) * order.inputs + i0 + i];
}

// The 36 products of one input channel and 16 output channels, `stride` floats apart.
void transform(float* to, int64_t stride, const Taps& g, int i) {
  Lanes half[kAlpha][3];  // G g
  for (int u = 0; u < kAlpha; ++u)
    for (int x = 0; x < 3; ++x) {
      half[u][x] = Lanes{};
      for (int y = 0; y < 3; ++y)
        half[u][x] += kG[u][y] * *reinterpret_cast<const Lanes*>(g[3 * y + x][i]);
    }
  for (int u = 0; u < kAlpha; ++u)
    for (int v = 0; v < kAlpha; ++v)
      *reinterpret_cast<Lanes*>(to + (u * kAlpha + v) * stride) =
          half[u][0] * kG[v][0] + half[u][1] * kG[v][1] + half[u][2] * kG[v][2];
}

}  // namespace

void winograd_filter(float* to, const float* w, bool rotated, const WinogradOrder& order,
                     int threads) {
  const int64_t outputs = order.outputs / kBlock, inputs = order.inputs / kBlock;
  const int64_t chunks = inputs / order.input_blocks;  // I/iBi
  const int64_t plane = chunks * order.output_blocks * order.input_blocks * kBlock * kBlock;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t job = 0; job < outputs * inputs; ++job) {
    const int64_t ob = job / inputs, ib = job % inputs;
    alignas(64) Taps g;
    gather(g, w, rotated, order, ob * kBlock, ib * kBlock);
    const int64_t inside =
        (ib / order.input_blocks * order.output_blocks + ob % order.output_blocks) *
            order.input_blocks +
        ib % order.input_blocks;
    float* first =
        to + ob / order.output_blocks * kAlpha * kAlpha * plane + inside * kBlock * kBlock;
    for (int i = 0; i < kBlock; ++i) transform(first + i * kBlock, plane, g, i);
  }
}

}  // namespace ringfort
