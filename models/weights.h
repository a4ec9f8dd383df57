// A model's parameters and running statistics as arrays, in PyTorch's element order: filters
// (O, I, kH, kW), matrices (out, in) with the columns of flattened images in the order (C, H, W).
// What files call them is decided elsewhere (checkpoint.h, naming.h).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "models/model.h"

namespace ringfort {

// Arrays with memory of their own.
struct WeightArrays {
  std::vector<std::vector<float>> values;
  std::vector<NamedArray>
      arrays;  // F32, over `values`; parameters in order of use, then statistics
};

// The values of a float32 model.
WeightArrays read_weights(const Model& model);

struct WeightShape {
  std::string name;
  std::vector<int64_t> shape;
};
// What write_weights() wants, in the order of read_weights().
std::vector<WeightShape> weight_shapes(const Model& model);

// Errors of write_weights() that concern names, shapes and dtypes, and nothing else. advice: how
// the sentence ends where arrays are unknown.
void require_weights(const Model& model, std::span<const NamedArray> arrays,
                     const std::string& file, std::string_view advice = {});

// Fills the model from arrays of F32, or of F64, F16 or BF16, which are converted. All of its
// arrays and no others must be there. Errors, one line that names `file` and the first few arrays
// of each kind: missing, of another shape, unknown, not of real numbers; a value that is not
// finite, a negative variance.
void write_weights(Exec& exec, Model& model, std::span<const NamedArray> arrays,
                   const std::string& file);

// F32, F64, F16 or BF16.
bool is_real(const NamedArray& array);
// The elements of an array of real numbers as float32. Errors name `file` and the array.
std::vector<float> to_floats(const NamedArray& array, const std::string& file);

// "a, b, c and 5 more", of names or clauses.
std::string first_few(std::span<const std::string> names);

}  // namespace ringfort
