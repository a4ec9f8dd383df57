// Convolutions and matrix products on the device, by cuDNN and cuBLASLt, against the float64
// reference on the host: every product and epilogue that the engine asks for, float32 and bfloat16,
// and the same bytes when run again.
#include <catch2/catch.hpp>

#include "engine/tensor.h"
#include "kernels/conv2d_reference.h"
#include "kernels/device_memory.h"
#include "kernels/gemm.h"
#include "kernels/gemm_reference.h"
#include "tests/conv_cases.h"
#include "tests/test_device.h"

namespace ringfort {
namespace {

constexpr Layout kLast = Layout::kChannelsLast;
constexpr Dtype kFloat64 = Dtype::kFloat64, kFloat32 = Dtype::kFloat32;

struct OnDevice {
  Exec exec{kTestDevice, 1};
  Pool pool{kTestDevice};

  Tensor tensor(const Shape& shape, Dtype dtype, const Values& values) {
    const Array host(shape, dtype, kLast, values);
    Tensor tensor(pool, shape, dtype);
    to_device(exec, tensor, host.view().data);
    return tensor;
  }
  Values values(const Tensor& tensor) {
    const Array host(tensor.shape(), tensor.dtype());
    to_host(exec, host.view().data, tensor);
    return host.values();
  }
};

// The channels that networks on a GPU have: multiples of 8, and 1 or 3 of an image.
std::vector<ConvCase> device_cases() {
  std::vector<ConvCase> cases;
  for (const ConvCase& c : kCases)
    if (c.outputs % 8 == 0 && (c.inputs % 8 == 0 || c.inputs == 1 || c.inputs == 3))
      cases.push_back(c);
  cases.push_back({4, 16, 16, 64, 64, 3, 1, 1});
  cases.push_back({4, 8, 8, 64, 128, 3, 2, 1});
  return cases;
}

Array wide(const Shape& shape, const Values& values) { return {shape, kFloat64, kLast, values}; }

// The same product twice on the device: within the tolerance of `exact`, and the same bytes. Where
// the library does not fuse them, each part of an epilogue rounds what was stored before it once
// more: `earlier` times.
template <class Product>
void check_product(Product product, const Values& exact, const Values& magnitude, int64_t terms,
                   Dtype result, int earlier = 0) {
  const Values first = product();
  CHECK(worst_ratio(first, exact, magnitude, terms, result, false, earlier) <= 1);
  CHECK(product() == first);
}

void check_forward(OnDevice& device, const ConvCase& c, Dtype dtype, bool with_bias,
                   bool accumulate, bool relu) {
  INFO("forward, bias " << with_bias << ", accumulate " << accumulate << ", relu " << relu);
  Exec host;
  const Values x = rounded(some_values(c.x().count(), 1), dtype),
               w = rounded(some_values(c.filter().count(), 2), dtype),
               before = rounded(some_values(c.y().count(), 3), dtype),
               bias = rounded(some_values(c.outputs, 4), kFloat32);
  const auto reference = [&](bool magnitude) {
    const auto of = [&](const Values& values) { return magnitude ? absolute(values) : values; };
    const Array y = wide(c.y(), of(before)), b = wide(vector_shape(c.outputs), of(bias));
    conv2d_forward_reference<double>(
        host, y, wide(c.x(), of(x)), wide(c.filter(), of(w)), c.options(),
        {with_bias ? &b.view() : nullptr, accumulate, relu && !magnitude});
    return y.values();
  };
  const Tensor x_there = device.tensor(c.x(), dtype, x),
               w_there = device.tensor(c.filter(), dtype, w),
               b_there = device.tensor(vector_shape(c.outputs), kFloat32, bias);
  check_product(
      [&] {
        const Tensor y = device.tensor(c.y(), dtype, before);
        conv2d_forward(device.exec, y, x_there, {w_there}, c.options(),
                       {.bias = with_bias ? &b_there.view() : nullptr,
                        .residual = accumulate ? &y.view() : nullptr,
                        .relu = relu});
        return device.values(y);
      },
      reference(false), reference(true), c.filter().per_sample(), dtype, accumulate + with_bias);
}

void check_dgrad(OnDevice& device, const ConvCase& c, Dtype dtype) {
  INFO("input gradient");
  Exec host;
  const Values dy = rounded(some_values(c.y().count(), 1), dtype),
               w = rounded(some_values(c.filter().count(), 2), dtype);
  const auto reference = [&](const Values& dys, const Values& ws) {
    const Array dx(c.x(), kFloat64);
    conv2d_dgrad_reference<double>(host, dx, wide(c.y(), dys), wide(c.filter(), ws), c.options());
    return dx.values();
  };
  const Tensor dy_there = device.tensor(c.y(), dtype, dy),
               w_there = device.tensor(c.filter(), dtype, w);
  check_product(
      [&] {
        const Tensor dx = device.tensor(c.x(), dtype, some_values(c.x().count(), 9));
        conv2d_dgrad(device.exec, dx, dy_there, {w_there}, c.options());
        return device.values(dx);
      },
      reference(dy, w), reference(absolute(dy), absolute(w)), c.outputs * c.kernel * c.kernel,
      dtype);
}

void check_wgrad(OnDevice& device, const ConvCase& c, Dtype dtype, float beta) {
  INFO("filter gradient, beta " << beta);
  Exec host;
  const Values x = rounded(some_values(c.x().count(), 1), dtype),
               dy = rounded(some_values(c.y().count(), 2), dtype),
               before = rounded(some_values(c.filter().count(), 3), kFloat32);
  const auto reference = [&](const Values& xs, const Values& dys, const Values& dws) {
    const Array dw = wide(c.filter(), dws);
    conv2d_wgrad_reference<double>(host, dw, wide(c.x(), xs), wide(c.y(), dys), c.options(), beta);
    return dw.values();
  };
  const Tensor x_there = device.tensor(c.x(), dtype, x), dy_there = device.tensor(c.y(), dtype, dy);
  check_product(
      [&] {
        const Tensor dw = device.tensor(c.filter(), kFloat32, before);
        conv2d_wgrad(device.exec, dw, x_there, dy_there, c.options(), beta);
        return device.values(dw);
      },
      reference(x, dy, before), reference(absolute(x), absolute(dy), absolute(before)),
      c.y().pixels(), kFloat32);
}

void check_gemm(OnDevice& device, int64_t rows, int64_t inner, int64_t columns, bool transpose_a,
                bool transpose_b, float beta, bool bias, Dtype dtype, Dtype result) {
  INFO(fmt::format("{} x {} x {} transposed {} {} beta {} bias {} {} to {}", rows, inner, columns,
                   transpose_a, transpose_b, beta, bias, to_string(dtype), to_string(result)));
  Exec host;
  const Shape a_shape = transpose_a ? matrix_shape(inner, rows) : matrix_shape(rows, inner);
  const Shape b_shape = transpose_b ? matrix_shape(columns, inner) : matrix_shape(inner, columns);
  const Shape c_shape = matrix_shape(rows, columns);
  const Values a = rounded(some_values(a_shape.count(), 1), dtype),
               b = rounded(some_values(b_shape.count(), 2), dtype),
               before = rounded(some_values(c_shape.count(), 3), result),
               biases = rounded(some_values(columns, 4), kFloat32);
  const auto reference = [&](bool magnitude) {
    const auto of = [&](const Values& values) { return magnitude ? absolute(values) : values; };
    const Array c = wide(c_shape, of(before)), bias_array = wide(vector_shape(columns), of(biases));
    gemm_reference<double>(
        host, c, wide(a_shape, of(a)), wide(b_shape, of(b)),
        {transpose_a, transpose_b, beta, bias ? &bias_array.view() : nullptr, bias && !magnitude});
    return c.values();
  };
  const Tensor a_there = device.tensor(a_shape, dtype, a),
               b_there = device.tensor(b_shape, dtype, b),
               bias_there = device.tensor(vector_shape(columns), kFloat32, biases);
  check_product(
      [&] {
        const Tensor c = device.tensor(c_shape, result, before);
        gemm(device.exec, c, a_there, b_there,
             {transpose_a, transpose_b, beta, bias ? &bias_there.view() : nullptr, bias});
        return device.values(c);
      },
      reference(false), reference(true), inner, result, bias);
}

}  // namespace

TEST_CASE("device: convolutions agree with the float64 reference and repeat bit for bit",
          "[products]") {
  OnDevice device;
  for (const Dtype dtype : {kFloat32, Dtype::kBFloat16})
    for (const ConvCase& c : device_cases()) {
      INFO(name_of(c) << " " << to_string(dtype));
      check_forward(device, c, dtype, false, false, false);
      check_forward(device, c, dtype, true, false, true);
      check_forward(device, c, dtype, false, true, false);
      check_forward(device, c, dtype, true, true, true);
      check_dgrad(device, c, dtype);
      check_wgrad(device, c, dtype, 0);
      check_wgrad(device, c, dtype, 1);
    }
}

TEST_CASE("device: what is allowed to products covers every rounding of an epilogue in turns",
          "[products]") {
  // One product and then a residual and a bias that all but cancel it, rounded after each.
  constexpr int64_t kCount = 4096;
  const Values product = some_values(kCount, 1), noise = some_values(kCount, 2);
  Values exact, magnitude, stored;
  const auto round = [](double value) { return rounded(value, Dtype::kBFloat16); };
  for (size_t i = 0; i < product.size(); ++i) {
    const double p = product[i], before = round(-p * (1 + noise[i] / 16)),
                 bias = round(noise[i] / 64);
    exact.push_back(p + before + bias);
    magnitude.push_back(std::abs(p) + std::abs(before) + std::abs(bias));
    stored.push_back(round(round(round(p) + before) + bias));
  }
  CHECK(worst_ratio(stored, exact, magnitude, 1, Dtype::kBFloat16, false, 2) <= 1);
  CHECK(worst_ratio(stored, exact, magnitude, 1, Dtype::kBFloat16) > 1);
}

TEST_CASE("device: matrix products agree with the float64 reference and repeat bit for bit",
          "[products]") {
  OnDevice device;
  for (const auto& [rows, inner, columns] :
       {std::array<int64_t, 3>{64, 512, 10}, {5, 64, 16}, {128, 32, 64}})
    for (const int transposes : {0, 1, 2, 3})
      for (const float beta : {0.0f, 1.0f})
        for (const bool bias : {false, true}) {
          const bool a = (transposes & 1) != 0, b = (transposes & 2) != 0;
          check_gemm(device, rows, inner, columns, a, b, beta, bias, kFloat32, kFloat32);
          check_gemm(device, rows, inner, columns, a, b, beta, bias, Dtype::kBFloat16,
                     Dtype::kBFloat16);
          check_gemm(device, rows, inner, columns, a, b, beta, bias, Dtype::kBFloat16, kFloat32);
        }
}

}  // namespace ringfort
