#include "bench/bare_convolutions.h"

#include <cmath>

#include "bench/timing.h"

namespace ringfort::bench {

BareConvolutions::BareConvolutions(Exec& exec, Pool& pool, Model& model, int64_t batch, Dtype dtype)
    : exec_(exec), pool_(pool), dtype_(dtype) {
  const int64_t width = model.spec().width, size = 32;
  const Shape largest{batch, size, size, std::max<int64_t>(width, 16)};
  for (Tensor* tensor : {&x_, &y_, &dx_, &dy_}) *tensor = random_tensor(exec, pool, largest, dtype);
  Pass p(exec, pool, model.params(), {.dtype = dtype});
  add(p, {batch, size, size, model.spec().channels}, width, 3, 1);
  Shape x{batch, size, size, width};
  for (int stage = 0; stage < 4; ++stage)
    for (int block = 0; block < 2; ++block) {
      const int64_t out = width << stage;
      const int stride = stage > 0 && block == 0 ? 2 : 1;
      if (stride != 1 || x.c != out) add(p, x, out, 1, stride);
      add(p, x, out, 3, stride);
      x = {batch, x.h / stride, x.w / stride, out};
      add(p, x, out, 3, 1);
    }
}

void BareConvolutions::add(Pass& p, Shape x, int64_t out, int kernel, int stride) {
  auto conv = std::make_unique<Convolution>();
  conv->options = {stride, kernel / 2};
  const Shape filter{out, kernel, kernel, x.c};
  const float bound = 1 / std::sqrt(static_cast<float>(filter.per_sample()));
  conv->w = random_tensor(exec_, pool_, filter, dtype_, Layout::kChannelsLast, -bound, bound);
  conv->dw = Tensor(pool_, filter, Dtype::kFloat32);
  conv->filter = {conv->w, 1, &conv->prepared};
  const Shape y = conv2d_shape(x, filter, conv->options);
  const auto part = [&](const Tensor& whole, const Shape& shape) {
    return View{whole.view().data, dtype_, shape, conv_layout(p, shape.c)};
  };
  conv->x = part(x_, x);
  conv->dx = part(dx_, x);
  conv->y = part(y_, y);
  conv->dy = part(dy_, y);
  convolutions_.push_back(std::move(conv));
}

void BareConvolutions::run() {
  for (const auto& c : convolutions_)
    c->forward.push_back(
        timed(exec_, [&] { conv2d_forward(exec_, c->y, c->x, c->filter, c->options); })());
  for (const auto& c : convolutions_)
    c->dgrad.push_back(
        timed(exec_, [&] { conv2d_dgrad(exec_, c->dx, c->dy, c->filter, c->options); })());
  for (const auto& c : convolutions_)
    c->wgrad.push_back(
        timed(exec_, [&] { conv2d_wgrad(exec_, c->dw, c->x, c->dy, c->options, 0); })());
}

double BareConvolutions::input_gradient() const {
  double sum = 0;
  for (const auto& c : convolutions_) sum += median(c->forward) + median(c->dgrad);
  return sum;
}

namespace {

double operations_of(const View& y, const View& w) {
  return 2.0 * static_cast<double>(y.count()) * static_cast<double>(w.shape.per_sample());
}

}  // namespace

double BareConvolutions::input_gradient_operations() const {
  double sum = 0;
  for (const auto& c : convolutions_) sum += 2 * operations_of(c->y, c->w);
  return sum;
}

double BareConvolutions::training_operations() const {
  double sum = -operations_of(convolutions_.front()->y, convolutions_.front()->w);
  for (const auto& c : convolutions_) sum += 3 * operations_of(c->y, c->w);
  return sum;
}

double BareConvolutions::training() const {
  double sum = -median(convolutions_.front()->dgrad);  // nobody asks for the pixels' gradient
  for (const auto& c : convolutions_)
    sum += median(c->forward) + median(c->dgrad) + median(c->wgrad);
  return sum;
}

}  // namespace ringfort::bench
