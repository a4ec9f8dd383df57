// How a launcher reads and writes elements of any dtype: functors only ever see the compute scalar
// S (float, or double when any view is float64), one run of elements at a time. Conversion, bit
// packing and tails live here and nowhere else.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/hd.h"
#include "kernels/view.h"

namespace ringfort {

// What a functor with several results returns.
template <class S, int kCount>
struct Results {
  S value[kCount];
};

namespace detail {

// Elements handled per run; a multiple of 64 so that bit masks are cut between words.
inline constexpr int64_t kRun = 512;

template <class S>
constexpr Dtype kDtypeOf = Dtype::kFloat32;
template <>
inline constexpr Dtype kDtypeOf<double> = Dtype::kFloat64;

// The functor as it is applied to elements. One that reads numbers where it runs has resolve(),
// which is called once for many elements and not for each.
template <class Fn>
HD inline auto resolved(const Fn& fn) {
  if constexpr (requires { fn.resolve(); })
    return fn.resolve();
  else
    return fn;
}

template <class S>
HD inline S load_element(const View& view, int64_t i) {
  switch (view.dtype) {
    case Dtype::kFloat32:
      return static_cast<S>(view.as<const float>()[i]);
    case Dtype::kFloat64:
      return static_cast<S>(view.as<const double>()[i]);
    case Dtype::kBFloat16:
      return static_cast<S>(to_float(view.as<const BFloat16>()[i]));
    case Dtype::kInt32:
      return static_cast<S>(view.as<const int32_t>()[i]);
    case Dtype::kInt64:
      return static_cast<S>(view.as<const int64_t>()[i]);
    case Dtype::kUint8:
      return static_cast<S>(view.as<const uint8_t>()[i]);
    case Dtype::kBit:
      return static_cast<S>((view.as<const uint8_t>()[i / 8] >> (i % 8)) & 1);
  }
  return S(0);
}

// A kBit view is written whole bytes at a time by the callers; this serves the other dtypes.
template <class S>
HD inline void store_element(const View& view, int64_t i, S value) {
  switch (view.dtype) {
    case Dtype::kFloat32:
      view.as<float>()[i] = static_cast<float>(value);
      break;
    case Dtype::kFloat64:
      view.as<double>()[i] = static_cast<double>(value);
      break;
    case Dtype::kBFloat16:
      view.as<BFloat16>()[i] = to_bfloat16(static_cast<float>(value));
      break;
    case Dtype::kInt32:
      view.as<int32_t>()[i] = static_cast<int32_t>(value);
      break;
    case Dtype::kInt64:
      view.as<int64_t>()[i] = static_cast<int64_t>(value);
      break;
    case Dtype::kUint8:
      view.as<uint8_t>()[i] = static_cast<uint8_t>(value);
      break;
    case Dtype::kBit:
      break;
  }
}

template <class S>
void unpack_bits(const uint8_t* bytes, int64_t n, S* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const unsigned word =
        static_cast<unsigned>(bytes[i / 8]) | static_cast<unsigned>(bytes[i / 8 + 1]) << 8;
#pragma omp simd
    for (int j = 0; j < 16; ++j) out[i + j] = static_cast<S>(static_cast<int>((word >> j) & 1u));
  }
  for (; i < n; ++i) out[i] = static_cast<S>((bytes[i / 8] >> (i % 8)) & 1);
}

template <class S>
void pack_bits(const S* in, int64_t n, uint8_t* bytes) {
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    alignas(64) uint8_t ones[64];
#pragma omp simd
    for (int j = 0; j < 64; ++j) ones[j] = in[i + j] != S(0);
    for (int b = 0; b < 8; ++b) {
      uint64_t eight;  // little-endian: the lowest element is in the lowest byte
      memcpy(&eight, ones + 8 * b, sizeof eight);
      // the product moves byte j's bit to bit 56 + j; no two of its terms meet
      bytes[i / 8 + b] = static_cast<uint8_t>((eight * 0x0102040810204080u) >> 56);
    }
  }
  for (; i < n; i += 8) {
    unsigned byte = 0;
    for (int64_t j = i; j < std::min(i + 8, n); ++j) byte |= (in[j] != S(0) ? 1u : 0u) << (j - i);
    bytes[i / 8] = static_cast<uint8_t>(byte);
  }
}

// Elements [first, first + n) as S: in place where the dtype is S already, else converted into
// `buffer`. REQUIRES: first % 8 == 0 for kBit.
template <class S>
const S* load_run(const View& view, int64_t first, int64_t n, S* buffer) {
  if (view.dtype == kDtypeOf<S>) return view.as<const S>() + first;
  if (view.dtype == Dtype::kBFloat16) {
    const BFloat16* in = view.as<const BFloat16>() + first;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) buffer[i] = static_cast<S>(to_float(in[i]));
  } else if (view.dtype == Dtype::kBit) {
    unpack_bits(view.as<const uint8_t>() + first / 8, n, buffer);
  } else {
    for (int64_t i = 0; i < n; ++i) buffer[i] = load_element<S>(view, first + i);
  }
  return buffer;
}

// Where a run of results is to be written: in place, or `buffer` which store_run then converts.
template <class S>
S* run_target(const View& view, int64_t first, S* buffer) {
  return view.dtype == kDtypeOf<S> ? view.as<S>() + first : buffer;
}

template <class S>
void store_run(const View& view, int64_t first, int64_t n, const S* buffer) {
  if (view.dtype == kDtypeOf<S>) return;
  if (view.dtype == Dtype::kBFloat16) {
    BFloat16* out = view.as<BFloat16>() + first;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = to_bfloat16(static_cast<float>(buffer[i]));
  } else if (view.dtype == Dtype::kBit) {
    pack_bits(buffer, n, view.as<uint8_t>() + first / 8);
  } else {
    for (int64_t i = 0; i < n; ++i) store_element(view, first + i, buffer[i]);
  }
}

template <size_t kCount>
bool any_float64(const std::array<View, kCount>& views) {
  return std::any_of(views.begin(), views.end(),
                     [](const View& view) { return view.dtype == Dtype::kFloat64; });
}

// Calls body(S{}) with the compute scalar the views ask for.
template <size_t kOut, size_t kIn, class Body>
void with_scalar(const std::array<View, kOut>& out, const std::array<View, kIn>& in, Body&& body) {
  if (any_float64(out) || any_float64(in))
    body(double{});
  else
    body(float{});
}

// All views of an elementwise call hold the same elements in the same order.
template <size_t kOut, size_t kIn>
void require_same_elements(const char* launcher, const std::array<View, kOut>& out,
                           const std::array<View, kIn>& in) {
  const View& first = out[0];
  const auto check = [&](const View& view) {
    require(view.shape == first.shape, "{}: shapes {} and {} differ", launcher,
            to_string(view.shape), to_string(first.shape));
    require(view.layout == first.layout, "{}: the two views of shape {} have different layouts",
            launcher, to_string(view.shape));
  };
  for (const View& view : out) check(view);
  for (const View& view : in) check(view);
}

}  // namespace detail
}  // namespace ringfort
