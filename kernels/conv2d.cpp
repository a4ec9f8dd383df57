#include "kernels/conv2d.h"

#include "kernels/conv2d_candidates.h"
#include "kernels/conv2d_cuda.h"
#include "kernels/conv2d_epilogue.h"
#include "kernels/conv2d_onednn.h"
#include "kernels/conv2d_reference.h"
#include "kernels/conv2d_stem.h"
#include "kernels/device_memory.h"

namespace ringfort {
namespace {

std::string padding(ConvOptions options) {
  return options.end() == options.pad ? fmt::format("{}", options.pad)
                                      : fmt::format("{} to {}", options.pad, options.end());
}

void check_view(const View& view, const char* function, const char* name) {
  require(view.dtype == Dtype::kFloat32 || view.dtype == Dtype::kBFloat16 ||
              view.dtype == Dtype::kFloat64,
          "{}: no implementation for {} ({})", function, to_string(view.dtype), name);
  require(view.layout == Layout::kChannelsLast || view.shape.c % 16 == 0,
          "{}: {} {} is in blocks of 16 channels, but its channels are no multiple of 16", function,
          name, to_string(view.shape));
}

// x (N, H, W, I), w (O, kH, kW, I), y (N, H', W', O): one geometry serves all three functions.
void check_shapes(const char* function, const View& x, const View& w, const View& y,
                  ConvOptions options) {
  check_view(x, function, "input");
  check_view(y, function, "output");
  require(w.layout == Layout::kChannelsLast, "{}: a filter must be (O, kH, kW, I) in this order",
          function);
  const Shape expected = conv2d_shape(x.shape, w.shape, options);
  require(y.shape == expected,
          "{}: input {} and filter {} with stride {} and padding {} make {}, not {}", function,
          to_string(x.shape), to_string(w.shape), options.stride, padding(options),
          to_string(expected), to_string(y.shape));
}

// `in` is multiplied by `w`; `out` is written: of the same type, or float32 from bfloat16.
void check_dtypes(const char* function, const View& in, const View& w, const View& out) {
  require(in.dtype == w.dtype, "{}: operands of {} and {}; both must be the same", function,
          to_string(in.dtype), to_string(w.dtype));
  require(out.dtype == in.dtype || (in.dtype == Dtype::kBFloat16 && out.dtype == Dtype::kFloat32),
          "{}: no implementation from {} to {}", function, to_string(in.dtype),
          to_string(out.dtype));
}

// One value per channel, float32, or float64 beside float64 views.
void check_channels(const char* function, const char* name, const View& values, int64_t channels,
                    Dtype beside) {
  const Dtype expected = beside == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
  require(values.count() == channels, "{}: the {} has {} values for {} channels", function, name,
          values.count(), channels);
  require(values.dtype == expected, "{}: the {} is {}, it must be {}", function, name,
          to_string(values.dtype), to_string(expected));
}

void check_like(const char* function, const char* name, const View& view, const View& like,
                Dtype dtype) {
  require(view.shape == like.shape && view.layout == like.layout && view.dtype == dtype,
          "{}: the {} is {} {}, it must be {} {} in the layout of the output", function, name,
          to_string(view.dtype), to_string(view.shape), to_string(dtype), to_string(like.shape));
}

void check_epilogue(const ConvEpilogue& e, const View& y) {
  constexpr const char* kForward = "conv2d_forward";
  if (e.bias) check_channels(kForward, "bias", *e.bias, y.shape.c, y.dtype);
  if (e.residual) check_like(kForward, "residual", *e.residual, y, y.dtype);
  if (e.mask) check_like(kForward, "mask", *e.mask, y, Dtype::kBit);
  if (!e.normed) return;
  check_like(kForward, "second output", e.normed->y, y, y.dtype);
  if (e.normed->mask.data) check_like(kForward, "second mask", e.normed->mask, y, Dtype::kBit);
  check_channels(kForward, "scale", e.normed->scale, y.shape.c, y.dtype);
  check_channels(kForward, "shift", e.normed->shift, y.shape.c, y.dtype);
}

void check_epilogue(const DgradEpilogue& e, const View& dx) {
  constexpr const char* kDgrad = "conv2d_dgrad";
  if (e.gate.mask.data) check_like(kDgrad, "mask", e.gate.mask, dx, Dtype::kBit);
  if (e.gate.scale.data) check_channels(kDgrad, "scale", e.gate.scale, dx.shape.c, dx.dtype);
  if (e.accumulate) check_like(kDgrad, "memory for the product", e.part, dx, dx.dtype);
}

void tell(const Exec& exec, const ConvProblem& problem) {
  if (exec.on_convolution) exec.on_convolution(problem);
}

}  // namespace

Shape conv2d_shape(const Shape& x, const Shape& filter, ConvOptions options) {
  require(options.stride >= 1 && options.pad >= 0 && options.end() >= 0,
          "conv2d: stride {} and padding {}; they must be >= 1 and >= 0", options.stride,
          padding(options));
  require(x.c == filter.c, "conv2d: input {} has {} channels, filter {} expects {}", to_string(x),
          x.c, to_string(filter), filter.c);
  require(x.c > 0 && filter.n > 0 && filter.h > 0 && filter.w > 0, "conv2d: filter {} is empty",
          to_string(filter));
  const int64_t pad = options.pad + options.end();
  const int64_t height = x.h + pad - filter.h, width = x.w + pad - filter.w;
  require(height >= 0 && width >= 0, "conv2d: filter {} is larger than input {} with padding {}",
          to_string(filter), to_string(x), padding(options));
  return {x.n, height / options.stride + 1, width / options.stride + 1, filter.n};
}

void conv2d_forward(Exec& exec, View y, View x, const Filter& filter, ConvOptions options,
                    const ConvEpilogue& epilogue) {
  check_shapes("conv2d_forward", x, filter.w, y, options);
  check_dtypes("conv2d_forward", x, filter.w, y);
  check_epilogue(epilogue, y);
  if (y.count() == 0) return;
  if (exec.planned()) return tell(exec, forward_problem(y, x, filter, options, epilogue));
  if (exec.on_cuda()) return conv2d_forward_cuda(exec, y, x, filter, options, epilogue);
  const ProductEpilogue fused = product_epilogue(exec, y, epilogue);
  if (x.dtype == Dtype::kFloat64)
    conv2d_forward_reference<double>(exec, y, x, filter.w, options, fused);
  else
    conv2d_forward_onednn(exec, y, x, filter, options, fused);
  finish_outputs(exec, y, epilogue);
}

void conv2d_dgrad(Exec& exec, View dx, View dy, const Filter& filter, ConvOptions options,
                  const DgradEpilogue& epilogue) {
  check_shapes("conv2d_dgrad", dx, filter.w, dy, options);
  check_dtypes("conv2d_dgrad", dy, filter.w, dx);
  check_epilogue(epilogue, dx);
  if (dx.count() == 0) return;
  if (exec.planned()) return tell(exec, dgrad_problem(dx, dy, filter, options, epilogue));
  if (exec.on_cuda()) return conv2d_dgrad_cuda(exec, dx, dy, filter, options, epilogue);
  const View product = epilogue.accumulate ? epilogue.part : dx;
  if (dx.dtype == Dtype::kFloat64)
    conv2d_dgrad_reference<double>(exec, product, dy, filter.w, options);
  else if (has_stem_dgrad(dx, dy, filter.w, options))
    conv2d_dgrad_stem(exec, product, dy, filter.w, options);
  else
    conv2d_dgrad_onednn(exec, product, dy, filter, options);
  finish_dgrad(exec, dx, product, epilogue);
}

void conv2d_wgrad(Exec& exec, View dw, View x, View dy, ConvOptions options, float beta) {
  check_shapes("conv2d_wgrad", x, dw, dy, options);
  check_dtypes("conv2d_wgrad", x, dy, dw);
  require(x.dtype == Dtype::kFloat64 || dw.dtype == Dtype::kFloat32,
          "conv2d_wgrad: the filter's gradient is {}, it must be float32", to_string(dw.dtype));
  require(beta == 0 || beta == 1, "conv2d_wgrad: beta is {}; it must be 0 or 1", beta);
  if (exec.planned()) return tell(exec, wgrad_problem(dw, x, dy, options, beta != 0));
  if (exec.on_cuda())
    conv2d_wgrad_cuda(exec, dw, x, dy, options, beta != 0);
  else if (x.dtype == Dtype::kFloat64)
    conv2d_wgrad_reference<double>(exec, dw, x, dy, options, beta);
  else if (dy.count() > 0)
    conv2d_wgrad_onednn(exec, dw, x, dy, options, beta != 0);
  else if (beta == 0)
    clear(exec, dw);
}

}  // namespace ringfort
