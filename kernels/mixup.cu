#include "kernels/mixup.h"

#include "kernels/rows.h"

namespace ringfort {
namespace {

struct DrawMixture {
  const int32_t* labels;
  const int64_t* samples;
  int64_t count;
  double alpha;
  RandomKey key;
  int32_t* other;
  float* share;

  HD void operator()(int64_t n) const {
    SampleStream stream(key, samples[n]);
    const double drawn = beta_draw(stream, alpha);
    share[n] = static_cast<float>(drawn < 0.5 ? 1 - drawn : drawn);
    other[n] = labels[count - 1 - n];
  }
};

// One image row per call.
struct MixRow {
  const float* x;
  const float* share;
  float* mixed;
  int64_t count, height, row_size;

  HD void operator()(int64_t row) const {
    const int64_t n = row / height, h = row % height;
    const float* own = x + row * row_size;
    const float* other = x + ((count - 1 - n) * height + h) * row_size;
    const float s = share[n];
    for (int64_t i = 0; i < row_size; ++i)
      mixed[row * row_size + i] = s * own[i] + (1.0f - s) * other[i];
  }
};

}  // namespace

void mix_up(Exec& exec, View mixed, const MixtureViews& mixture, View x, View labels, View samples,
            double alpha, const RandomKey& key) {
  const Shape s = x.shape;
  require(alpha >= 1e-300, "mixup: alpha must be positive, 1e-300 or more, got {}", alpha);
  require(mixed.shape == s && x.dtype == Dtype::kFloat32 && mixed.dtype == Dtype::kFloat32 &&
              mixed.data != x.data && labels.count() == s.n && samples.count() == s.n &&
              mixture.labels.count() == s.n && mixture.share.count() == s.n,
          "mixup: needs float32 images {} in two places, with as many labels, samples and shares",
          to_string(s));
  for_each(exec, s.n, 256,
           DrawMixture{labels.as<const int32_t>(), samples.as<const int64_t>(), s.n, alpha, key,
                       mixture.labels.as<int32_t>(), mixture.share.as<float>()});
  for_each(exec, s.n * s.h, s.w * s.c,
           MixRow{x.as<const float>(), mixture.share.as<const float>(), mixed.as<float>(), s.n, s.h,
                  s.w * s.c});
}

}  // namespace ringfort
