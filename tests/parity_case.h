// Vectors in tests/data, made by PyTorch in float64: models with images and labels, and what is to
// come of them.
#pragma once

#include <catch2/catch.hpp>

#include "engine/safetensors.h"
#include "models/checkpoint.h"
#include "tests/testing.h"

namespace ringfort::testing {

using Values = std::vector<double>;

inline const std::filesystem::path kParityFolder = RINGFORT_TEST_DATA;
inline Values values_of(const NamedArray& array) {
  const size_t size = array.dtype == "F32" ? 4 : 8;
  Values values(array.bytes.size() / size);
  for (size_t i = 0; i < values.size(); ++i) {
    const std::byte* at = array.bytes.data() + i * size;
    float single;
    int64_t integer;
    if (array.dtype == "F32") {
      std::memcpy(&single, at, 4);
      values[i] = static_cast<double>(single);
    } else if (array.dtype == "I64") {
      std::memcpy(&integer, at, 8);
      values[i] = static_cast<double>(integer);
    } else {
      std::memcpy(&values[i], at, 8);
    }
  }
  return values;
}

inline Values values_of(const View& view) {
  Values values(static_cast<size_t>(view.count()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = detail::load_element<double>(view, static_cast<int64_t>(i));
  return values;
}

// A filter (O, kH, kW, I), or the matrix of a flattened image, in the order of PyTorch's
// (O, I, kH, kW).
inline Values in_file_order(const View& view) {
  const Values values = values_of(view);
  const Shape& s = view.shape;
  Values ordered;
  for (int64_t o = 0; o < s.n; ++o)
    for (int64_t i = 0; i < s.c; ++i)
      for (int64_t hw = 0; hw < s.h * s.w; ++hw)
        ordered.push_back(values[static_cast<size_t>((o * s.h * s.w + hw) * s.c + i)]);
  return ordered;
}

// A model of the checkpoint in tests/data with its images and labels, all in `dtype`.
struct ParityCase {
  ParityCase(const std::string& name, Dtype dtype_in)
      : dtype(dtype_in),
        expected(load_safetensors(kParityFolder / ("parity-" + name + "-expected.safetensors"))),
        model(load_checkpoint(exec, kParityFolder / ("parity-" + name + ".safetensors"),
                              {.master = dtype_in})
                  .model) {
    const Values pixels = values_of(expected.at("x")), classes = values_of(expected.at("labels"));
    const ModelSpec& spec = model->spec();
    const Shape shape{static_cast<int64_t>(classes.size()), spec.height, spec.image_width,
                      spec.channels};
    REQUIRE(static_cast<int64_t>(pixels.size()) == shape.count());
    x = Tensor(pool, shape, dtype);
    labels = Tensor(pool, vector_shape(shape.n), Dtype::kInt32);
    for (size_t i = 0; i < pixels.size(); ++i)
      detail::store_element(x, static_cast<int64_t>(i), pixels[i]);
    for (size_t i = 0; i < classes.size(); ++i)
      labels.as<int32_t>()[i] = static_cast<int32_t>(classes[i]);
  }

  void check_close(const Values& values, const std::string& name, double tolerance) const {
    INFO(model->spec().name << ", " << to_string(dtype) << ", " << name);
    CHECK(relative_error(values, values_of(expected.at(name))) <= tolerance);
  }

  Dtype dtype;
  Exec exec{{}, 2};
  Pool pool;
  SafetensorsFile expected;
  std::unique_ptr<Model> model;
  Tensor x, labels;
};

}  // namespace ringfort::testing
