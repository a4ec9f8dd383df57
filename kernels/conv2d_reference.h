// Convolution by its definition: a template on the scalar that accumulates in the scalar. The
// specification that every other implementation is tested against, and what float64 networks run
// on. Nothing here is fast: each output is one sum, and threads share out outputs.
#pragma once

#include "kernels/conv2d_epilogue.h"
#include "kernels/indexing.h"

namespace ringfort {

// The filter positions that meet an input row (or column) when the output one is `out`: in = out *
// stride - pad + k.
struct Window {
  int64_t begin, end;  // of k
};
inline Window window(int64_t out, int64_t size, int64_t kernel, ConvOptions options) {
  const int64_t first = out * options.stride - options.pad;
  return {first < 0 ? -first : 0, first + kernel > size ? size - first : kernel};
}

template <class S>
void conv2d_forward_reference(Exec& exec, View y, View x, View w, ConvOptions options,
                              const ProductEpilogue& epilogue) {
  const S* bias = epilogue.bias ? epilogue.bias->as<S>() : nullptr;
  const int64_t outputs = w.shape.n, inputs = w.shape.c;
  const int64_t kernel_h = w.shape.h, kernel_w = w.shape.w;
#pragma omp parallel for collapse(2) num_threads(exec.threads())
  for (int64_t n = 0; n < y.shape.n; ++n)
    for (int64_t pixel = 0; pixel < y.shape.h * y.shape.w; ++pixel) {
      const int64_t top = pixel / y.shape.w * options.stride - options.pad;
      const int64_t left = pixel % y.shape.w * options.stride - options.pad;
      const Window rows = window(pixel / y.shape.w, x.shape.h, kernel_h, options);
      const Window columns = window(pixel % y.shape.w, x.shape.w, kernel_w, options);
      for (int64_t o = 0; o < outputs; ++o) {
        S& out = y.as<S>()[element_offset(y, n, pixel, o)];
        S sum = (bias ? bias[o] : S(0)) + (epilogue.accumulate ? out : S(0));
        for (int64_t kh = rows.begin; kh < rows.end; ++kh)
          for (int64_t kw = columns.begin; kw < columns.end; ++kw) {
            const S* weight = w.as<S>() + ((o * kernel_h + kh) * kernel_w + kw) * inputs;
            const int64_t in_pixel = (top + kh) * x.shape.w + left + kw;
            for (int64_t i = 0; i < inputs; ++i)
              sum += x.as<S>()[element_offset(x, n, in_pixel, i)] * weight[i];
          }
        out = epilogue.relu && !(sum > S(0)) ? S(0) : sum;
      }
    }
}

// Each input pixel gathers from the outputs it took part in: those with out * stride - pad + k =
// in.
template <class S>
void conv2d_dgrad_reference(Exec& exec, View dx, View dy, View w, ConvOptions options) {
  const int64_t outputs = w.shape.n, inputs = w.shape.c;
  const int64_t kernel_h = w.shape.h, kernel_w = w.shape.w;
#pragma omp parallel for collapse(2) num_threads(exec.threads())
  for (int64_t n = 0; n < dx.shape.n; ++n)
    for (int64_t pixel = 0; pixel < dx.shape.h * dx.shape.w; ++pixel) {
      for (int64_t i = 0; i < inputs; ++i) dx.as<S>()[element_offset(dx, n, pixel, i)] = S(0);
      for (int64_t kh = 0; kh < kernel_h; ++kh)
        for (int64_t kw = 0; kw < kernel_w; ++kw) {
          const int64_t down = pixel / dx.shape.w + options.pad - kh,
                        across = pixel % dx.shape.w + options.pad - kw;
          if (down < 0 || across < 0 || down % options.stride != 0 || across % options.stride != 0)
            continue;
          const int64_t row = down / options.stride, column = across / options.stride;
          if (row >= dy.shape.h || column >= dy.shape.w) continue;
          for (int64_t o = 0; o < outputs; ++o) {
            const S out = dy.as<S>()[element_offset(dy, n, row * dy.shape.w + column, o)];
            const S* weight = w.as<S>() + ((o * kernel_h + kh) * kernel_w + kw) * inputs;
            for (int64_t i = 0; i < inputs; ++i)
              dx.as<S>()[element_offset(dx, n, pixel, i)] += out * weight[i];
          }
        }
    }
}

template <class S>
void conv2d_wgrad_reference(Exec& exec, View dw, View x, View dy, ConvOptions options, S beta) {
  const int64_t outputs = dw.shape.n, inputs = dw.shape.c;
  const int64_t kernel_h = dw.shape.h, kernel_w = dw.shape.w;
#pragma omp parallel for collapse(3) num_threads(exec.threads())
  for (int64_t o = 0; o < outputs; ++o)
    for (int64_t kh = 0; kh < kernel_h; ++kh)
      for (int64_t kw = 0; kw < kernel_w; ++kw) {
        S* gradient = dw.as<S>() + ((o * kernel_h + kh) * kernel_w + kw) * inputs;
        for (int64_t i = 0; i < inputs; ++i) gradient[i] = beta == S(0) ? S(0) : beta * gradient[i];
        for (int64_t n = 0; n < dy.shape.n; ++n)
          for (int64_t pixel = 0; pixel < dy.shape.h * dy.shape.w; ++pixel) {
            const int64_t row = pixel / dy.shape.w * options.stride - options.pad + kh;
            const int64_t column = pixel % dy.shape.w * options.stride - options.pad + kw;
            if (row < 0 || row >= x.shape.h || column < 0 || column >= x.shape.w) continue;
            const S out = dy.as<S>()[element_offset(dy, n, pixel, o)];
            for (int64_t i = 0; i < inputs; ++i)
              gradient[i] += out * x.as<S>()[element_offset(x, n, row * x.shape.w + column, i)];
          }
      }
}

}  // namespace ringfort
