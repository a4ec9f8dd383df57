// row_reduce and channel_reduce on CUDA. Terms are added in double in an order that only the shape
// decides, without atomics: reruns are bit-identical.
//
// A channel's pixels are cut into parts, a block each, so that few channels fill the GPU too; a
// thread reads eight neighbouring channels at a time. A second kernel adds the parts.
#pragma once

#include "kernels/indexing.h"
#include "kernels/launch_cuda.cuh"
#include "kernels/map_cuda.cuh"

namespace ringfort::cuda {

struct Plus {
  __device__ double operator()(double a, double b) const { return a + b; }
};

inline __device__ void store_sum(const View& out, int64_t at, double total, float beta) {
  const double before =
      beta == 0 ? 0 : static_cast<double>(beta) * detail::load_element<double>(out, at);
  detail::store_element(out, at, before + total);
}

template <size_t kSums>
__device__ void store_block_sums(const Views<kSums>& out, int64_t at, const double* sums,
                                 float beta) {
  for (int k = 0; k < static_cast<int>(kSums); ++k) {
    const double total = block_combine(sums[k], Plus{});
    if (threadIdx.x == 0) store_sum(out.view[k], at, total, beta);
  }
}

// Calls body(i, n, whole, inputs) for each group of up to eight of the elements [first, last) that
// is this thread's. packed: all views start on 16 bytes.
template <class S, size_t kIn, class Body>
__device__ void each_eight(int64_t first, int64_t last, const Views<kIn>& in, bool packed,
                           const Body& body) {
  Columns<S, kIn> inputs;
  for (int64_t i = first + static_cast<int64_t>(threadIdx.x) * kPerThread; i < last;
       i += kThreads * kPerThread) {
    const int n = static_cast<int>(last - i < kPerThread ? last - i : kPerThread);
    const bool whole = packed && n == kPerThread && i % kPerThread == 0;
    load_group(in, i, n, whole, inputs);
    body(i, n, whole, inputs);
  }
}

// sums[k] += the k-th terms of this thread's elements of [first, last).
template <class S, size_t kSums, class Fn, size_t kIn, size_t kExtra>
__device__ void add_terms_of(const Fn& fn, int64_t first, int64_t last, const Views<kIn>& in,
                             const Columns<S, kExtra>& extras, bool packed, double (&sums)[kSums]) {
  each_eight<S>(first, last, in, packed, [&](int64_t, int n, bool, const Columns<S, kIn>& inputs) {
    unrolled<kPerThread>([&](auto j) {
      if (j >= n) return;
      const auto terms =
          apply<S>(fn, inputs.value, extras.value, j, std::make_index_sequence<kIn>{},
                   std::make_index_sequence<kExtra>{});
      unrolled<kSums>([&](auto k) { sums[k] += static_cast<double>(result_at(terms, k)); });
    });
  });
}

template <class S, class Fn, size_t kSums, size_t kIn>
__global__ void row_reduce_kernel(Fn fn, Views<kSums> out, Views<kIn> in, int64_t length,
                                  bool packed) {
  const int64_t row = blockIdx.x;
  double sums[kSums] = {};
  add_terms_of<S>(fn, row * length, (row + 1) * length, in, Columns<S, 0>{}, packed, sums);
  store_block_sums(out, row, sums, 0);
}

// --- channels: the general case, a block per channel ---

template <class S, class Fn, size_t kSums, size_t kIn, size_t kParams>
__global__ void channel_kernel(Fn fn, Views<kSums> out, Views<kIn> in, Views<kParams> params,
                               float beta) {
  const int64_t c = blockIdx.x;
  const View& first = in.view[0];
  const int64_t plane = first.shape.h * first.shape.w, pixels = first.shape.n * plane;
  Columns<S, kIn> inputs;
  Columns<S, kParams> values;
  for (int k = 0; k < static_cast<int>(kParams); ++k)
    load_some(params.view[k], c, 1, values.value[k]);
  double sums[kSums] = {};
  for (int64_t p = threadIdx.x; p < pixels; p += kThreads) {
    for (int k = 0; k < static_cast<int>(kIn); ++k)
      load_some(in.view[k], element_offset(first, p / plane, p % plane, c), 1, inputs.value[k]);
    const auto result = apply<S>(fn, inputs.value, values.value, 0, std::make_index_sequence<kIn>{},
                                 std::make_index_sequence<kParams>{});
    for (int k = 0; k < static_cast<int>(kSums); ++k)
      sums[k] += static_cast<double>(result_at(result, k));
  }
  store_block_sums(out, c, sums, beta);
}

// --- channels last, a multiple of 8 of them ---

// How pixels and channels are laid over blocks: a pure function of the shape.
struct ChannelGrid {
  int columns;     // groups of 8 channels beside each other in a block; a power of two
  int64_t tiles;   // blocks beside each other, to cover all channels
  int64_t parts;   // blocks that share the pixels
  int64_t pixels;  // of a part

  ChannelGrid(int64_t all_pixels, int64_t channels) : columns(1) {
    const int64_t groups = channels / kPerThread;
    while (columns < groups && columns < kWarp) columns *= 2;
    tiles = ceil_div(groups, columns);
    const int64_t rows = kThreads / columns;
    // Eight pixels to a thread: enough loads in flight, and parts for every SM.
    parts = std::clamp<int64_t>(ceil_div(all_pixels, 8 * rows), 1, 1024);
    pixels = ceil_div(all_pixels, parts);
  }
};

// partial[part][k][c] = the sum over the part's pixels.
template <class S, class Fn, size_t kSums, size_t kIn, size_t kParams>
__global__ void channel_parts_kernel(Fn fn, double* partial, Views<kIn> in, Views<kParams> params,
                                     ChannelGrid grid) {
  const int64_t channels = in.view[0].shape.c, pixels = in.view[0].shape.pixels();
  const int column = static_cast<int>(threadIdx.x) % grid.columns,
            row = static_cast<int>(threadIdx.x) / grid.columns, rows = kThreads / grid.columns;
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * grid.columns + column) * kPerThread;
  const int64_t begin = blockIdx.y * grid.pixels,
                end = begin + grid.pixels < pixels ? begin + grid.pixels : pixels;
  double sums[kSums][kPerThread] = {};
  if (c < channels) {
    Columns<S, kIn> inputs;
    Columns<S, kParams> values;
    for (int k = 0; k < static_cast<int>(kParams); ++k)
      load_eight(params.view[k], c, values.value[k]);
    for (int64_t pixel = begin + row; pixel < end; pixel += rows) {
      for (int k = 0; k < static_cast<int>(kIn); ++k)
        load_eight(in.view[k], pixel * channels + c, inputs.value[k]);
      for (int j = 0; j < kPerThread; ++j) {
        const auto result =
            apply<S>(fn, inputs.value, values.value, j, std::make_index_sequence<kIn>{},
                     std::make_index_sequence<kParams>{});
        for (int k = 0; k < static_cast<int>(kSums); ++k)
          sums[k][j] += static_cast<double>(result_at(result, k));
      }
    }
  }
  __shared__ double of_thread[kPerThread][kThreads];
  for (int k = 0; k < static_cast<int>(kSums); ++k) {
    for (int j = 0; j < kPerThread; ++j) of_thread[j][threadIdx.x] = sums[k][j];
    __syncthreads();
    // One thread per channel of the tile adds the rows in order.
    const int lane = static_cast<int>(threadIdx.x);
    const int64_t to = static_cast<int64_t>(blockIdx.x) * grid.columns * kPerThread + lane;
    if (lane < grid.columns * kPerThread && to < channels) {
      double total = 0;
      for (int r = 0; r < rows; ++r)
        total += of_thread[lane % kPerThread][r * grid.columns + lane / kPerThread];
      partial[(blockIdx.y * static_cast<int64_t>(kSums) + k) * channels + to] = total;
    }
    __syncthreads();  // before of_thread is written again
  }
}

// Channels beside each other and parts above each other in a block of the second kernel.
inline constexpr int kSumColumns = 32, kSumRows = kThreads / kSumColumns;

template <size_t kSums>
__global__ void sum_parts_kernel(Views<kSums> out, const double* partial, int64_t parts,
                                 int64_t channels, float beta) {
  const int column = static_cast<int>(threadIdx.x) % kSumColumns,
            row = static_cast<int>(threadIdx.x) / kSumColumns;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kSumColumns + column, k = blockIdx.y;
  double sum = 0;
  if (c < channels)
    for (int64_t part = row; part < parts; part += kSumRows)
      sum += partial[(part * static_cast<int64_t>(kSums) + k) * channels + c];
  __shared__ double of_thread[kThreads];
  of_thread[threadIdx.x] = sum;
  __syncthreads();
  if (row != 0 || c >= channels) return;
  for (int r = 1; r < kSumRows; ++r) sum += of_thread[r * kSumColumns + column];
  store_sum(out.view[k], c, sum, beta);
}

template <class S, class Fn, size_t kSums, size_t kIn>
void row_reduce(Exec& exec, const Fn& fn, const std::array<View, kSums>& out,
                const std::array<View, kIn>& in) {
  launch(exec, "row_reduce", in[0].shape.n, row_reduce_kernel<S, Fn, kSums, kIn>, fn,
         Views<kSums>(out), Views<kIn>(in), in[0].shape.per_sample(), starts_on_16_bytes(in));
}

template <class S, class Fn, size_t kSums, size_t kIn, size_t kParams>
void channel_reduce(Exec& exec, const Fn& fn, const std::array<View, kSums>& out,
                    const std::array<View, kIn>& in, const std::array<View, kParams>& params,
                    float beta) {
  const Shape& shape = in[0].shape;
  const bool packed = in[0].layout == Layout::kChannelsLast && shape.c % kPerThread == 0 &&
                      starts_on_16_bytes(in) && starts_on_16_bytes(params);
  if (!packed) {
    launch(exec, "channel_reduce", shape.c, channel_kernel<S, Fn, kSums, kIn, kParams>, fn,
           Views<kSums>(out), Views<kIn>(in), Views<kParams>(params), beta);
    return;
  }
  const ChannelGrid grid(shape.pixels(), shape.c);
  auto* partial = static_cast<double*>(
      exec.scratch(grid.parts * shape.c * static_cast<int64_t>(sizeof(double) * kSums)));
  launch(exec, "channel_reduce", grid.tiles, grid.parts,
         channel_parts_kernel<S, Fn, kSums, kIn, kParams>, fn, partial, Views<kIn>(in),
         Views<kParams>(params), grid);
  launch(exec, "channel_reduce", ceil_div(shape.c, kSumColumns), static_cast<int64_t>(kSums),
         sum_parts_kernel<kSums>, Views<kSums>(out), static_cast<const double*>(partial),
         grid.parts, shape.c, beta);
}

}  // namespace ringfort::cuda
