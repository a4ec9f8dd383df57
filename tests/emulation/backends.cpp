// In place of cuDNN and cuBLASLt on the emulated device: the reference products in float64, queued
// on the stream like theirs, so that graphs record them.
#include "tests/emulation/backends.h"
#include <optional>

#include "kernels/conv2d_cuda.h"
#include "kernels/conv2d_epilogue.h"
#include "kernels/conv2d_reference.h"
#include "kernels/exec_cuda.h"
#include "kernels/gemm_backends.h"
#include "kernels/gemm_reference.h"
#include "kernels/slots.h"

namespace ringfort {

std::string cuda_library_version() { return "the reference"; }

namespace {

bool fused_epilogues = false;

// A view's elements in float64; store() writes them back.
struct Wide {
  explicit Wide(const View& view_in)
      : narrow(view_in), values(static_cast<size_t>(view_in.count())), view(view_in) {
    view.dtype = Dtype::kFloat64;
    view.data = values.data();
    for (int64_t i = 0; i < view.count(); ++i)
      values[static_cast<size_t>(i)] = detail::load_element<double>(narrow, i);
  }
  void store() const {
    for (int64_t i = 0; i < view.count(); ++i)
      detail::store_element(narrow, i, values[static_cast<size_t>(i)]);
  }
  View narrow;
  std::vector<double> values;
  View view;
};

// The products run when the stream comes to them: on an Exec of their own, as that of the caller
// may be gone.
Exec& host() {
  static Exec exec({}, 1);
  return exec;
}

// An epilogue with what it points to, for later.
struct HeldEpilogue {
  explicit HeldEpilogue(const ConvEpilogue& e) : relu(e.relu) {
    if (e.bias) bias = *e.bias;
    if (e.residual) residual = *e.residual;
    if (e.mask) mask = *e.mask;
    if (e.normed) normed = *e.normed;
  }
  ConvEpilogue epilogue() const {
    const auto at = [](const auto& held) { return held ? &*held : nullptr; };
    return {at(bias), at(residual), relu, at(mask), at(normed)};
  }
  std::optional<View> bias, residual, mask;
  std::optional<NormedOutput> normed;
  bool relu;
};

}  // namespace

void emulation::fuse_epilogues(bool fuse) { fused_epilogues = fuse; }

void conv2d_forward_cuda(Exec& exec, View y, View x, const Filter& filter, ConvOptions options,
                         const ConvEpilogue& epilogue) {
  if (fused_epilogues)
    return emulation::submit(exec.cuda().stream(),
                             [=, w = filter.w, held = HeldEpilogue(epilogue)] {
                               conv2d_forward(host(), y, x, {w}, options, held.epilogue());
                             });
  const ProductEpilogue fused = product_epilogue(exec, y, epilogue);
  const bool biased = fused.bias != nullptr;
  emulation::submit(exec.cuda().stream(), [=, w = filter.w, bias = biased ? *fused.bias : View{}] {
    Wide wide_y(y);
    const Wide wide_x(x), wide_w(w), wide_bias(biased ? bias : View{});
    ProductEpilogue wide = fused;
    wide.bias = biased ? &wide_bias.view : nullptr;
    conv2d_forward_reference<double>(host(), wide_y.view, wide_x.view, wide_w.view, options, wide);
    wide_y.store();
  });
  finish_outputs(exec, y, epilogue);
}

void conv2d_dgrad_cuda(Exec& exec, View dx, View dy, const Filter& filter, ConvOptions options,
                       const DgradEpilogue& epilogue) {
  if (fused_epilogues)
    return emulation::submit(exec.cuda().stream(), [=, w = filter.w] {
      conv2d_dgrad(host(), dx, dy, {w}, options, epilogue);
    });
  const View product = epilogue.accumulate ? epilogue.part : dx;
  emulation::submit(exec.cuda().stream(), [=, w = filter.w] {
    Wide wide_dx(product);
    const Wide wide_dy(dy), wide_w(w);
    conv2d_dgrad_reference<double>(host(), wide_dx.view, wide_dy.view, wide_w.view, options);
    wide_dx.store();
  });
  finish_dgrad(exec, dx, product, epilogue);
}

void conv2d_wgrad_cuda(Exec& exec, View dw, View x, View dy, ConvOptions options, bool accumulate) {
  emulation::submit(exec.cuda().stream(), [=] {
    Wide wide_dw(dw);
    const Wide wide_x(x), wide_dy(dy);
    conv2d_wgrad_reference<double>(host(), wide_dw.view, wide_x.view, wide_dy.view, options,
                                   accumulate ? 1.0f : 0.0f);
    wide_dw.store();
  });
}

void gemm_cuda(Exec& exec, View c, View a, View b, const GemmOptions& options) {
  const bool biased = options.bias != nullptr;
  emulation::submit(exec.cuda().stream(), [=, bias = biased ? *options.bias : View{}] {
    Wide wide_c(c);
    const Wide wide_a(a), wide_b(b), wide_bias(biased ? bias : View{});
    GemmOptions wide = options;
    wide.bias = biased ? &wide_bias.view : nullptr;
    gemm_reference<double>(host(), wide_c.view, wide_a.view, wide_b.view, wide);
    wide_c.store();
  });
}

}  // namespace ringfort
