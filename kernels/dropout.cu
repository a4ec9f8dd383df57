#include "kernels/dropout.h"

#include "kernels/indexing.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

// One call serves one pixel, all channels; four neighbours share a call of the generator.
struct Dropout {
  View y, x;
  RandomKey key;
  const int64_t* samples;
  float rate;
  double scale;
  bool add;

  HD void operator()(int64_t index) const {
    const int64_t plane = x.shape.h * x.shape.w, n = index / plane, pixel = index % plane;
    const auto sample = static_cast<uint64_t>(samples[n]);
    Philox4 words{};
    for (int64_t c = 0; c < x.shape.c; ++c) {
      const auto element = static_cast<uint32_t>(pixel * x.shape.c + c);
      if (c == 0 || element % 4 == 0) words = key.words(sample, element / 4);
      const int64_t at = element_offset(x, n, pixel, c);
      const double kept = uniform01(words.word[element % 4]) < rate
                              ? 0
                              : detail::load_element<double>(x, at) * scale;
      detail::store_element(y, at, add ? kept + detail::load_element<double>(y, at) : kept);
    }
  }
};

}  // namespace

void dropout(Exec& exec, View y, View x, double rate, RandomKey key, const int64_t* samples,
             float beta) {
  require(rate >= 0 && rate < 1, "dropout: the rate must be in [0, 1), got {}", rate);
  require(y.shape == x.shape && y.layout == x.layout, "dropout: {} and {} differ",
          to_string(y.shape), to_string(x.shape));
  for_each(exec, x.shape.pixels(), x.shape.c,
           Dropout{y, x, key, samples, static_cast<float>(rate), 1 / (1 - rate), beta != 0});
}

}  // namespace ringfort
