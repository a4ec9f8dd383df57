#include "bench/bare_convolutions.h"

#include <cmath>

#include "bench/timing.h"

namespace ringfort::bench {

BareConvolutions::BareConvolutions(Exec& exec, Pool& pool, Model& model, int64_t batch, Dtype dtype)
    : exec_(exec), pool_(pool), dtype_(dtype) {
  const ModelSpec& spec = model.spec();
  const Shape x{batch, spec.height, spec.image_width, spec.channels};
  Pass p(exec, pool, model.params(), {.dtype = dtype});
  if (spec.name == "preact_resnet18") {
    add_blocks(p, x, spec.width, kPreActResNet18);
  } else if (spec.name == "wrn_34_10") {
    add_blocks(p, x, spec.width, kWideResNet34);
  } else {
    require(spec.name == "resnet50", "bench: which convolutions '{}' has is not known", spec.name);
    add_blocks(p, x, spec.width, kResNet50);
  }
  int64_t largest_x = 0, largest_y = 0;
  for (const auto& c : convolutions_) {
    largest_x = std::max(largest_x, c->x.count());
    largest_y = std::max(largest_y, c->y.count());
  }
  for (Tensor* tensor : {&x_, &dx_})
    *tensor = random_tensor(exec, pool, vector_shape(largest_x), dtype);
  for (Tensor* tensor : {&y_, &dy_})
    *tensor = random_tensor(exec, pool, vector_shape(largest_y), dtype);
  for (const auto& c : convolutions_) {
    c->x.data = x_.view().data;
    c->dx.data = dx_.view().data;
    c->y.data = y_.view().data;
    c->dy.data = dy_.view().data;
  }
}

void BareConvolutions::add_blocks(Pass& p, Shape x, int64_t width, const PreActDesign& design) {
  x = add(p, x, design.stem != 0 ? design.stem : width, 3, 1);
  for (int stage = 0; stage < design.stages; ++stage)
    for (int block = 0; block < design.blocks; ++block) {
      const int64_t out = width << stage;
      const int stride = stage > 0 && block == 0 ? 2 : 1;
      if (stride != 1 || x.c != out) add(p, x, out, 1, stride);
      x = add(p, add(p, x, out, 3, stride), out, 3, 1);
    }
}

// Of networks for photographs.
void BareConvolutions::add_blocks(Pass& p, Shape x, int64_t width, const ResNetDesign& design) {
  require(design.bottleneck && design.large_images, "bench: bottlenecks alone are known here");
  x = add(p, x, width, 7, 2);
  x.h = (x.h + 1) / 2;  // the pooling
  x.w = (x.w + 1) / 2;
  for (size_t stage = 0; stage < design.blocks.size(); ++stage)
    for (int block = 0; block < design.blocks[stage]; ++block) {
      const int64_t inner = width << stage, out = 4 * inner;
      const int stride = stage > 0 && block == 0 ? 2 : 1;
      if (stride != 1 || x.c != out) add(p, x, out, 1, stride);
      x = add(p, add(p, add(p, x, inner, 1, 1), inner, 3, stride), out, 1, 1);
    }
}

Shape BareConvolutions::add(Pass& p, Shape x, int64_t out, int kernel, int stride) {
  auto conv = std::make_unique<Convolution>();
  conv->options = {stride, kernel / 2};
  const Shape filter{out, kernel, kernel, x.c};
  const float bound = 1 / std::sqrt(static_cast<float>(filter.per_sample()));
  conv->w = random_tensor(exec_, pool_, filter, dtype_, Layout::kChannelsLast, -bound, bound);
  conv->dw = Tensor(pool_, filter, Dtype::kFloat32);
  conv->filter = {conv->w, 1, &conv->prepared};
  const Shape y = conv2d_shape(x, filter, conv->options);
  conv->x = conv->dx = {nullptr, dtype_, x, conv_layout(p, x.c)};
  conv->y = conv->dy = {nullptr, dtype_, y, conv_layout(p, y.c)};
  convolutions_.push_back(std::move(conv));
  return y;
}

void BareConvolutions::run() {
  // On a GPU several back to back: alone, most are over before the host has queued them.
  const int calls = exec_.on_cuda() ? 10 : 1;
  const auto seconds = [&](const std::function<void()>& product) {
    return seconds_per_call(exec_, calls, product);
  };
  for (const auto& c : convolutions_)
    c->forward.push_back(
        seconds([&] { conv2d_forward(exec_, c->y, c->x, c->filter, c->options); }));
  for (const auto& c : convolutions_)
    c->dgrad.push_back(seconds([&] { conv2d_dgrad(exec_, c->dx, c->dy, c->filter, c->options); }));
  for (const auto& c : convolutions_)
    c->wgrad.push_back(seconds([&] { conv2d_wgrad(exec_, c->dw, c->x, c->dy, c->options, 0); }));
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
