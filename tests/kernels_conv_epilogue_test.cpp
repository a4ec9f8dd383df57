// What convolutions do with their sums on the way out, on every device: bias, residual, ReLU, masks
// and a second output forward, gates backward, against the bare products in float64.
#include <catch2/catch.hpp>

#include "kernels/conv2d_reference.h"
#include "tests/conv_cases.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;
using testing::rounded_to;
using Doubles = std::vector<double>;

// Channels that every backend takes.
constexpr ConvCase kEpilogueCases[] = {
    {3, 8, 8, 16, 32, 3, 1, 1}, {2, 9, 9, 32, 32, 3, 2, 1}, {2, 8, 8, 16, 32, 1, 2, 0}};

Layout layout_here() {
  return kTestDevice.kind == DeviceKind::kCpu ? Layout::kBlocked16 : Layout::kChannelsLast;
}

struct Case {
  const ConvCase& c;
  Dtype dtype;
  Exec exec{kTestDevice, 2}, host{{}, 2};
  Doubles x = rounded_to(dtype, random_vector(c.x().count(), 1)),
          w = rounded_to(dtype, random_vector(c.filter().count(), 2)),
          dy = rounded_to(dtype, random_vector(c.y().count(), 3));

  Buffer buffer(const Shape& shape, const Doubles& values) const {
    return Buffer(dtype, shape, values, layout_here());
  }
  Buffer filter() const { return Buffer(dtype, c.filter(), w); }
  Buffer channels(int64_t count, const Doubles& values) const {
    return Buffer(Dtype::kFloat32, vector_shape(count), values);
  }
  // The bare products, and those of the absolute values: the scale of their rounding errors.
  Doubles forward(bool magnitude) {
    const Array y(c.y(), Dtype::kFloat64);
    conv2d_forward_reference<double>(host, y, wide(c.x(), x, magnitude),
                                     wide(c.filter(), w, magnitude), c.options(), {});
    return y.values();
  }
  Doubles dgrad(bool magnitude) {
    const Array dx(c.x(), Dtype::kFloat64);
    conv2d_dgrad_reference<double>(host, dx, wide(c.y(), dy, magnitude),
                                   wide(c.filter(), w, magnitude), c.options());
    return dx.values();
  }
  static Array wide(const Shape& shape, const Doubles& values, bool magnitude) {
    return {shape, Dtype::kFloat64, Layout::kChannelsLast, magnitude ? absolute(values) : values};
  }
  // A fused epilogue rounds once, one of several kernels up to three times.
  double tolerance_of(double exact, double magnitude, int64_t terms) const {
    return tolerance(exact, magnitude, terms, dtype) +
           (dtype == Dtype::kBFloat16 ? 2 * 0x1p-8 * magnitude : 2 * 0x1p-24 * magnitude);
  }
};

void check_rectified(const ConvCase& c, Dtype dtype) {
  INFO(name_of(c) << " " << to_string(dtype) << ": bias, ReLU and its mask");
  Case t{c, dtype};
  const Doubles bias = rounded_to(Dtype::kFloat32, random_vector(c.outputs, 4));
  const Doubles bare = t.forward(false), magnitude = t.forward(true);
  const Buffer x = t.buffer(c.x(), t.x), w = t.filter(), b = t.channels(c.outputs, bias);
  const Buffer y(dtype, c.y(), layout_here()), mask(Dtype::kBit, c.y(), layout_here());
  conv2d_forward(t.exec, y, x, {w}, c.options(),
                 {.bias = &b.view(), .relu = true, .mask = &mask.view()});
  const Doubles ys = y.values(), bits = mask.values();
  for (size_t i = 0; i < ys.size(); ++i) {
    const double exact = std::max(0.0, bare[i] + bias[i % static_cast<size_t>(c.outputs)]);
    REQUIRE(std::abs(ys[i] - exact) <=
            t.tolerance_of(exact, magnitude[i] + 1, c.filter().per_sample()));
    REQUIRE(bits[i] == (ys[i] > 0 ? 1 : 0));
  }
}

// The end of a post-activation block.
void check_added_rectified(const ConvCase& c, Dtype dtype, bool in_place, bool with_mask) {
  INFO(name_of(c) << " " << to_string(dtype) << ": bias, residual" << (in_place ? ", in place" : "")
                  << ", ReLU" << (with_mask ? " and its mask" : ""));
  Case t{c, dtype};
  const Doubles bias = rounded_to(Dtype::kFloat32, random_vector(c.outputs, 4)),
                before = rounded_to(dtype, random_vector(c.y().count(), 5));
  const Doubles bare = t.forward(false), magnitude = t.forward(true);
  const Buffer x = t.buffer(c.x(), t.x), w = t.filter(), b = t.channels(c.outputs, bias),
               residual = t.buffer(c.y(), before);
  const Buffer y = in_place ? t.buffer(c.y(), before) : Buffer(dtype, c.y(), layout_here());
  const Buffer mask(Dtype::kBit, c.y(), layout_here());
  conv2d_forward(t.exec, y, x, {w}, c.options(),
                 {.bias = &b.view(),
                  .residual = in_place ? &y.view() : &residual.view(),
                  .relu = true,
                  .mask = with_mask ? &mask.view() : nullptr});
  const Doubles ys = y.values(), bits = mask.values();
  size_t off = 0;
  for (size_t i = 0; i < ys.size(); ++i) {
    const double sum = bare[i] + bias[i % static_cast<size_t>(c.outputs)] + before[i];
    const double exact = std::max(0.0, sum), largest = magnitude[i] + 1 + std::abs(before[i]);
    REQUIRE(std::abs(ys[i] - exact) <= t.tolerance_of(exact, largest, c.filter().per_sample()));
    if (with_mask) REQUIRE(bits[i] == (ys[i] > 0 ? 1 : 0));
    off += sum < 0;
  }
  CHECK(off > ys.size() / 8);  // the ReLU had something to do
  CHECK((in_place || residual.values() == before));
}

void check_normed(const ConvCase& c, Dtype dtype, bool in_place, bool with_mask) {
  INFO(name_of(c) << " " << to_string(dtype) << ": residual" << (in_place ? ", in place" : "")
                  << ", a normed output" << (with_mask ? " and its mask" : ""));
  Case t{c, dtype};
  const Doubles before = rounded_to(dtype, random_vector(c.y().count(), 5)),
                scale = rounded_to(Dtype::kFloat32, random_vector(c.outputs, 6)),
                shift = rounded_to(Dtype::kFloat32, random_vector(c.outputs, 7));
  const Doubles bare = t.forward(false), magnitude = t.forward(true);
  const Buffer x = t.buffer(c.x(), t.x), w = t.filter(), a = t.channels(c.outputs, scale),
               s = t.channels(c.outputs, shift), residual = t.buffer(c.y(), before);
  const Buffer y = in_place ? t.buffer(c.y(), before) : Buffer(dtype, c.y(), layout_here());
  const Buffer normed(dtype, c.y(), layout_here()), mask(Dtype::kBit, c.y(), layout_here());
  const NormedOutput second{normed, with_mask ? mask.view() : View{}, a, s};
  conv2d_forward(t.exec, y, x, {w}, c.options(),
                 {.residual = in_place ? &y.view() : &residual.view(), .normed = &second});
  const Doubles ys = y.values(), zs = normed.values(), bits = mask.values();
  for (size_t i = 0; i < ys.size(); ++i) {
    const size_t k = i % static_cast<size_t>(c.outputs);
    const double exact = bare[i] + before[i], largest = magnitude[i] + std::abs(before[i]);
    const double sum_error = t.tolerance_of(exact, largest, c.filter().per_sample());
    REQUIRE(std::abs(ys[i] - exact) <= sum_error);
    const double z = std::max(0.0, scale[k] * exact + shift[k]);
    REQUIRE(std::abs(zs[i] - z) <= std::abs(scale[k]) * sum_error + t.tolerance_of(z, z + 1, 1));
    if (with_mask) REQUIRE(bits[i] == (zs[i] > 0 ? 1 : 0));
  }
  CHECK((in_place || residual.values() == before));
}

void check_gates(const ConvCase& c, Dtype dtype) {
  INFO(name_of(c) << " " << to_string(dtype));
  Case t{c, dtype};
  const int64_t channels = c.inputs, terms = c.outputs * c.kernel * c.kernel;
  const Doubles scale = rounded_to(Dtype::kFloat32, random_vector(channels, 6)),
                before = rounded_to(dtype, random_vector(c.x().count(), 5));
  Doubles mask = random_vector(c.x().count(), 7);
  for (double& bit : mask) bit = bit > 0 ? 1 : 0;
  const Doubles bare = t.dgrad(false), magnitude = t.dgrad(true);
  const Buffer dy = t.buffer(c.y(), t.dy), w = t.filter(), a = t.channels(channels, scale);
  const Buffer bits(Dtype::kBit, c.x(), mask, layout_here());
  for (const bool masked : {false, true})
    for (const bool scaled : {false, true})
      for (const bool accumulate : {false, true}) {
        INFO("mask " << masked << ", scale " << scaled << ", accumulate " << accumulate);
        const Buffer dx = t.buffer(c.x(), before), part(dtype, c.x(), layout_here());
        conv2d_dgrad(t.exec, dx, dy, {w}, c.options(),
                     {{masked ? bits.view() : View{}, scaled ? a.view() : View{}},
                      accumulate,
                      accumulate ? part.view() : View{}});
        const Doubles actual = dx.values();
        for (size_t i = 0; i < actual.size(); ++i) {
          const double factor =
              (masked ? mask[i] : 1) * (scaled ? scale[i % static_cast<size_t>(channels)] : 1);
          const double held = accumulate ? before[i] : 0;
          const double exact = factor * bare[i] + held;
          REQUIRE(std::abs(actual[i] - exact) <=
                  t.tolerance_of(exact, std::abs(factor) * magnitude[i] + std::abs(held), terms));
        }
      }
}

}  // namespace

TEST_CASE("conv2d: masks and second outputs", "[conv2d][products]") {
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16})
    for (const ConvCase& c : kEpilogueCases) {
      check_rectified(c, dtype);
      for (const bool in_place : {false, true})
        for (const bool with_mask : {false, true}) {
          check_added_rectified(c, dtype, in_place, with_mask);
          check_normed(c, dtype, in_place, with_mask);
        }
    }
}

TEST_CASE("conv2d: gradients go through a gate", "[conv2d][products]") {
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16})
    for (const ConvCase& c : kEpilogueCases) check_gates(c, dtype);
}

TEST_CASE("conv2d: an epilogue that does not fit the output is refused", "[conv2d][products]") {
  const ConvCase& c = kEpilogueCases[0];
  Case t{c, Dtype::kFloat32};
  const Buffer x = t.buffer(c.x(), t.x), w = t.filter(), y = t.buffer(c.y(), t.dy);
  const Buffer small(Dtype::kBit, c.x(), layout_here()), bias = t.channels(3, {1, 2, 3});
  CHECK_THROWS_WITH(
      conv2d_forward(t.exec, y, x, {w}, c.options(), {.relu = true, .mask = &small.view()}),
      Catch::Contains(
          "conv2d_forward: the mask is bit (3, 8, 8, 16), it must be bit (3, 8, 8, 32)"));
  CHECK_THROWS_WITH(conv2d_forward(t.exec, y, x, {w}, c.options(), {.bias = &bias.view()}),
                    Catch::Contains("conv2d_forward: the bias has 3 values for 32 channels"));
  CHECK_THROWS_WITH(conv2d_forward(t.exec, y, x, {w}, c.options(), {.residual = &x.view()}),
                    Catch::Contains("the residual is float32 (3, 8, 8, 16)"));
  CHECK_THROWS_WITH(conv2d_dgrad(t.exec, x, y, {w}, c.options(), {{bias, {}}, false, {}}),
                    Catch::Contains("conv2d_dgrad: the mask is float32"));
  CHECK_THROWS_WITH(conv2d_dgrad(t.exec, x, y, {w}, c.options(), {.accumulate = true}),
                    Catch::Contains("conv2d_dgrad: the memory for the product"));
}

}  // namespace ringfort
