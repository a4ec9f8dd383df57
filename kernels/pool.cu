#include "kernels/pool.h"

#include "kernels/indexing.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

using detail::load_element;
using detail::store_element;

// One call of the functors below serves one pixel of the written tensor, all channels.
struct Pixel {
  int64_t n, h, w;
  HD Pixel(int64_t index, const Shape& shape)
      : n(index / (shape.h * shape.w)), h(index / shape.w % shape.h), w(index % shape.w) {}
};

HD inline double read(const View& view, int64_t n, int64_t h, int64_t w, int64_t c) {
  return load_element<double>(view, element_offset(view, n, h * view.shape.w + w, c));
}

struct AvgForward {
  View y, x;
  int64_t size, stride;
  HD void operator()(int64_t index) const {
    const Pixel at(index, y.shape);
    for (int64_t c = 0; c < y.shape.c; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < size; ++i)
        for (int64_t j = 0; j < size; ++j)
          sum += read(x, at.n, at.h * stride + i, at.w * stride + j, c);
      store_element(y, element_offset(y, at.n, at.h * y.shape.w + at.w, c),
                    sum / static_cast<double>(size * size));
    }
  }
};

// Output rows (or columns) whose window covers input coordinate `at`: [first, last].
struct Cover {
  int64_t first, last;
  HD Cover(int64_t at, int64_t size, int64_t stride, int64_t outputs)
      : first(at < size ? 0 : (at - size) / stride + 1), last(at / stride) {
    if (last >= outputs) last = outputs - 1;
  }
};

struct AvgBackward {
  View dx, dy;
  int64_t size, stride;
  HD void operator()(int64_t index) const {
    const Pixel at(index, dx.shape);
    const Cover rows(at.h, size, stride, dy.shape.h), columns(at.w, size, stride, dy.shape.w);
    for (int64_t c = 0; c < dx.shape.c; ++c) {
      double sum = 0;
      for (int64_t h = rows.first; h <= rows.last; ++h)
        for (int64_t w = columns.first; w <= columns.last; ++w) sum += read(dy, at.n, h, w, c);
      store_element(dx, element_offset(dx, at.n, at.h * dx.shape.w + at.w, c),
                    sum / static_cast<double>(size * size));
    }
  }
};

// How elements are read and added: bfloat16 in float.
HD inline double widened(double x) { return x; }
HD inline float widened(float x) { return x; }
HD inline float widened(BFloat16 x) { return to_float(x); }
HD inline void put(double& to, double x) { to = x; }
HD inline void put(float& to, float x) { to = x; }
HD inline void put(BFloat16& to, float x) { to = to_bfloat16(x); }

// The positions of a window, [first, last), that lie in the image; `start` is the image coordinate
// of position 0.
struct Inside {
  int64_t start, first, last;
  HD Inside(int64_t out, int64_t stride, int64_t pad, int64_t size, int64_t image)
      : start(out * stride - pad),
        first(start < 0 ? -start : 0),
        last(start + size > image ? image - start : size) {}
};

// Max pooling and its backward go through a pixel's channels 16 at a time, straight on the
// elements.
template <class T>
struct MaxForward {
  View y, argmax, x;
  int64_t size, stride, pad;
  HD void operator()(int64_t index) const {
    const Pixel at(index, y.shape);
    const Inside rows(at.h, stride, pad, size, x.shape.h),
        columns(at.w, stride, pad, size, x.shape.w);
    for (int64_t c = 0; c < y.shape.c; c += 16) {
      const int64_t count = y.shape.c - c < 16 ? y.shape.c - c : 16;
      decltype(widened(T{})) best[16] = {};
      uint8_t where[16] = {};
      for (int64_t i = rows.first; i < rows.last; ++i)
        for (int64_t j = columns.first; j < columns.last; ++j) {
          const bool first = i == rows.first && j == columns.first;
          const T* from =
              x.as<const T>() +
              element_offset(x, at.n, (rows.start + i) * x.shape.w + columns.start + j, c);
          for (int64_t k = 0; k < count; ++k)
            if (first || widened(from[k]) > best[k])
              best[k] = widened(from[k]), where[k] = static_cast<uint8_t>(i * size + j);
        }
      const int64_t to = element_offset(y, at.n, at.h * y.shape.w + at.w, c);
      for (int64_t k = 0; k < count; ++k) {
        put(y.as<T>()[to + k], best[k]);
        argmax.as<uint8_t>()[to + k] = where[k];
      }
    }
  }
};

template <class T>
struct MaxBackward {
  View dx, dy, argmax;
  int64_t size, stride, pad;
  HD void operator()(int64_t index) const {
    const Pixel at(index, dx.shape);
    const Cover rows(at.h + pad, size, stride, dy.shape.h),
        columns(at.w + pad, size, stride, dy.shape.w);
    for (int64_t c = 0; c < dx.shape.c; c += 16) {
      const int64_t count = dx.shape.c - c < 16 ? dx.shape.c - c : 16;
      decltype(widened(T{})) sum[16] = {};
      for (int64_t h = rows.first; h <= rows.last; ++h)
        for (int64_t w = columns.first; w <= columns.last; ++w) {
          const int64_t from = element_offset(dy, at.n, h * dy.shape.w + w, c);
          const int64_t here = (at.h + pad - h * stride) * size + (at.w + pad - w * stride);
          for (int64_t k = 0; k < count; ++k)
            if (argmax.as<const uint8_t>()[from + k] == here)
              sum[k] += widened(dy.as<const T>()[from + k]);
        }
      T* to = dx.as<T>() + element_offset(dx, at.n, at.h * dx.shape.w + at.w, c);
      for (int64_t k = 0; k < count; ++k) put(to[k], sum[k]);
    }
  }
};

// Global pooling of 16 channels of a sample at a time, straight on the elements: it runs in every
// pass.
struct Channels {
  int64_t n, first, count;
  HD Channels(int64_t index, int64_t channels)
      : n(index / ((channels + 15) / 16)),
        first(index % ((channels + 15) / 16) * 16),
        count(channels - first < 16 ? channels - first : 16) {}
};

template <class T>
struct GlobalAvgForward {
  View y, x;
  HD void operator()(int64_t index) const {
    using Sum = decltype(widened(T{}));
    const Channels at(index, x.shape.c);
    const int64_t pixels = x.shape.h * x.shape.w;
    Sum sum[16] = {};
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const T* from = x.as<const T>() + element_offset(x, at.n, pixel, at.first);
      for (int64_t k = 0; k < at.count; ++k) sum[k] += widened(from[k]);
    }
    T* to = y.as<T>() + element_offset(y, at.n, 0, at.first);
    for (int64_t k = 0; k < at.count; ++k) put(to[k], sum[k] / static_cast<Sum>(pixels));
  }
};

template <class T>
struct GlobalAvgBackward {
  View dx, dy;
  GradientGate gate;
  bool add;  // to what dx holds
  HD void operator()(int64_t index) const {
    using Sum = decltype(widened(T{}));
    const Channels at(index, dx.shape.c);
    const int64_t pixels = dx.shape.h * dx.shape.w;
    const T* from = dy.as<const T>() + element_offset(dy, at.n, 0, at.first);
    Sum share[16] = {}, scale[16] = {};
    for (int64_t k = 0; k < at.count; ++k) {
      share[k] = widened(from[k]) / static_cast<Sum>(pixels);
      scale[k] = gate.scale.data ? load_element<Sum>(gate.scale, at.first + k) : Sum(1);
    }
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const int64_t first = element_offset(dx, at.n, pixel, at.first);
      T* to = dx.as<T>() + first;
      for (int64_t k = 0; k < at.count; ++k) {
        const Sum on = gate.mask.data ? load_element<Sum>(gate.mask, first + k) : Sum(1);
        constexpr MaskScaleBackward kThrough;
        put(to[k], add ? kThrough(share[k], on, widened(to[k]), scale[k])
                       : kThrough(share[k], on, scale[k]));
      }
    }
  }
};

// Runs Kernel<T>{operands...}, T the dtype of the elements, `jobs` times.
template <template <class> class Kernel, class... Operands>
void in_dtype(Exec& exec, const char* name, Dtype dtype, int64_t jobs, int64_t cost,
              const Operands&... operands) {
  switch (dtype) {
    case Dtype::kFloat32:
      return for_each(exec, jobs, cost, Kernel<float>{operands...});
    case Dtype::kFloat64:
      return for_each(exec, jobs, cost, Kernel<double>{operands...});
    case Dtype::kBFloat16:
      return for_each(exec, jobs, cost, Kernel<BFloat16>{operands...});
    default:
      fail("{}: no implementation for {}", name, to_string(dtype));
  }
}

void require_same(const char* name, Dtype to, Dtype from) {
  require(to == from, "{}: from {} to {}; both must be the same", name, to_string(from),
          to_string(to));
}

// Over the samples of `image`, 16 channels at a time.
template <template <class> class Kernel, class... Rest>
void global_avg_pool(Exec& exec, const char* name, View to, View from, const Shape& image,
                     const Rest&... rest) {
  require_same(name, to.dtype, from.dtype);
  in_dtype<Kernel>(exec, name, from.dtype, image.n * ((image.c + 15) / 16), 16 * image.h * image.w,
                   to, from, rest...);
}

}  // namespace

Shape pool_shape(const Shape& x, PoolWindow window) {
  const int64_t pad = window.pad, height = x.h + 2 * pad, width = x.w + 2 * pad;
  require(window.size >= 1 && window.stride >= 1 && window.size <= height && window.size <= width,
          "pooling: a window of {0} x {0} with stride {1} and padding {2} does not fit into {3}",
          window.size, window.stride, pad, to_string(x));
  require(pad >= 0 && pad <= window.size / 2,
          "pooling: padding of {0} around a window of {1} x {1}; from 0 to {2} are possible", pad,
          window.size, window.size / 2);
  return {x.n, (height - window.size) / window.stride + 1,
          (width - window.size) / window.stride + 1, x.c};
}

void avg_pool_forward(Exec& exec, View y, View x, PoolWindow window) {
  require(window.pad == 0, "avg_pool: padding is for max pooling only, got {}", window.pad);
  require(y.shape == pool_shape(x.shape, window), "avg_pool: y is {}, expected {}",
          to_string(y.shape), to_string(pool_shape(x.shape, window)));
  for_each(exec, y.shape.pixels(), y.shape.c, AvgForward{y, x, window.size, window.stride});
}

void avg_pool_backward(Exec& exec, View dx, View dy, PoolWindow window) {
  for_each(exec, dx.shape.pixels(), dx.shape.c, AvgBackward{dx, dy, window.size, window.stride});
}

void max_pool_forward(Exec& exec, View y, View argmax, View x, PoolWindow window) {
  require(y.shape == pool_shape(x.shape, window), "max_pool: y is {}, expected {}",
          to_string(y.shape), to_string(pool_shape(x.shape, window)));
  require(window.size <= 15, "max_pool: windows above 15 x 15 are not supported, got {}",
          window.size);
  require_same("max_pool_forward", y.dtype, x.dtype);
  const int64_t size = window.size, stride = window.stride, pad = window.pad;
  in_dtype<MaxForward>(exec, "max_pool_forward", x.dtype, y.shape.pixels(), y.shape.c, y, argmax, x,
                       size, stride, pad);
}

void max_pool_backward(Exec& exec, View dx, View dy, View argmax, PoolWindow window) {
  require_same("max_pool_backward", dx.dtype, dy.dtype);
  const int64_t size = window.size, stride = window.stride, pad = window.pad;
  in_dtype<MaxBackward>(exec, "max_pool_backward", dx.dtype, dx.shape.pixels(), dx.shape.c, dx, dy,
                        argmax, size, stride, pad);
}

void global_avg_pool_forward(Exec& exec, View y, View x) {
  global_avg_pool<GlobalAvgForward>(exec, "global_avg_pool_forward", y, x, x.shape);
}

void global_avg_pool_backward(Exec& exec, View dx, View dy, const GradientGate& gate, float beta) {
  global_avg_pool<GlobalAvgBackward>(exec, "global_avg_pool_backward", dx, dy, dx.shape, gate,
                                     beta != 0);
}

}  // namespace ringfort
