#include "kernels/attack.h"

#include "kernels/map.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

// Pixels are float32 or float64, channels last, all of one shape and dtype.
void require_pixels(const char* name, std::initializer_list<View> views) {
  const View& first = *views.begin();
  require(first.dtype == Dtype::kFloat32 || first.dtype == Dtype::kFloat64,
          "{}: pixels must be float32 or float64, got {}", name, to_string(first.dtype));
  for (const View& view : views)
    require(view.dtype == first.dtype && view.shape == first.shape &&
                view.layout == Layout::kChannelsLast,
            "{}: all views must be channels last, of one dtype and of shape {}", name,
            to_string(first.shape));
}

// Runs body(S{}) with the scalar of the pixels.
template <class Body>
void with_attack_scalar(const char* name, std::initializer_list<View> views, Body&& body) {
  require_pixels(name, views);
  if (views.begin()->dtype == Dtype::kFloat64)
    body(double{});
  else
    body(float{});
}

}  // namespace

void linf_start(Exec& exec, View x_adv, View x_nat, const LinfProjection& project, RandomKey key,
                const int64_t* samples) {
  require_pixels("linf_start", {x_adv, x_nat});
  map_random(exec, LinfStart{project}, key, samples, x_adv, {x_nat});
}

void nearby_start(Exec& exec, View x_adv, View x_nat, const LinfProjection& project, RandomKey key,
                  const int64_t* samples) {
  require_pixels("nearby_start", {x_adv, x_nat});
  map_random(exec, NearbyStart{project}, key, samples, x_adv, {x_nat});
}

void linf_step(Exec& exec, View x_adv, View grad, View x_nat, const LinfStep& step) {
  require_pixels("linf_step", {x_adv, x_nat});  // only the sign of grad counts: any dtype will do
  map(exec, step, {x_adv}, {x_adv, grad, x_nat});
}

void l2_start(Exec& exec, View x_adv, View x_nat, float eps, float lower, float upper,
              RandomKey key, const int64_t* samples) {
  with_attack_scalar("l2_start", {x_adv, x_nat}, [&]<class S>(S) {
    const int64_t length = x_nat.shape.per_sample();
    for_each_row(
        exec, x_nat.shape.n, length,
        L2StartRow<S>{x_adv.as<S>(), x_nat.as<const S>(), samples, length, key, eps, lower, upper});
  });
}

void l2_step(Exec& exec, View x_adv, View grad, View x_nat, float alpha, float eps, float lower,
             float upper) {
  with_attack_scalar("l2_step", {x_adv, grad, x_nat}, [&]<class S>(S) {
    const int64_t length = x_nat.shape.per_sample();
    for_each_row(exec, x_nat.shape.n, length,
                 L2StepRow<S>{x_adv.as<S>(), grad.as<const S>(), x_nat.as<const S>(), length, alpha,
                              eps, lower, upper});
  });
}

}  // namespace ringfort
