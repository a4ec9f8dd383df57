#include "models/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "kernels/bfloat16.h"
#include "kernels/device_memory.h"

namespace ringfort {
namespace {

std::vector<int64_t> file_shape(const Segment& segment) {
  const Shape& s = segment.shape;
  switch (segment.kind) {
    case ParamKind::kConvWeight:
      return {s.n, s.c, s.h, s.w};
    case ParamKind::kLinearWeight:
      return {s.n, s.per_sample()};
    default:
      return {s.c};
  }
}

// Calls visit(index in the file's order, index in memory) for every element: filters change from
// (O, kH, kW, I) to (O, I, kH, kW), matrices of flattened images likewise, all else stays.
template <class Visit>
void each_element(const Segment& segment, Visit&& visit) {
  const Shape& s = segment.shape;
  int64_t file = 0;
  for (int64_t o = 0; o < s.n; ++o)
    for (int64_t i = 0; i < s.c; ++i)
      for (int64_t hw = 0; hw < s.h * s.w; ++hw) visit(file++, (o * s.h * s.w + hw) * s.c + i);
}

struct Entry {
  const Segment* segment;
  View view;
};

std::vector<Entry> entries(const ParamStore& params) {
  std::vector<Entry> all;
  for (size_t i = 0; i < params.segments().size(); ++i)
    all.push_back({&params.segments()[i], params.master(static_cast<ParamId>(i))});
  for (size_t i = 0; i < params.statistics().size(); ++i)
    all.push_back({&params.statistics()[i], params.statistic(static_cast<StatId>(i))});
  return all;
}

// IEEE 754's 16 bits: sign, 5 of exponent, 10 of fraction.
float half_to_float(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float magnitude = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  if (exponent == 0) magnitude = std::ldexp(static_cast<float>(fraction), -24);
  if (exponent == 31) magnitude = fraction == 0 ? INFINITY : NAN;
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

template <class T, class Convert>
std::vector<float> converted(const NamedArray& array, Convert&& convert) {
  std::vector<float> values(array.bytes.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, array.bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = convert(value);
  }
  return values;
}

using ByName = std::map<std::string, const NamedArray*>;

ByName by_name(std::span<const NamedArray> arrays, const std::string& file) {
  ByName found;
  for (const NamedArray& array : arrays)
    require(found.emplace(array.name, &array).second, "{}: holds '{}' twice", file, array.name);
  return found;
}

// Everything that is wrong with the arrays, in clauses by kind.
void check_arrays(const std::vector<Entry>& wanted, const ByName& found, const std::string& file,
                  const ModelSpec& spec, std::string_view advice = {}) {
  std::vector<std::string> missing, misshapen, unreal, unknown, clauses;
  ByName rest = found;
  for (const Entry& entry : wanted) {
    const std::string& name = entry.segment->name;
    const auto array = rest.find(name);
    if (array == rest.end()) {
      missing.push_back(name);
      continue;
    }
    const std::vector<int64_t>&shape = array->second->shape, needed = file_shape(*entry.segment);
    if (shape != needed)
      misshapen.push_back(
          fmt::format("{} is ({}), not ({})", name, shape_text(shape), shape_text(needed)));
    if (!is_real(*array->second))
      unreal.push_back(fmt::format("{} of {}", name, array->second->dtype));
    rest.erase(array);
  }
  for (const auto& [name, array] : rest) unknown.push_back(name);
  const auto add = [&](const std::vector<std::string>& names, std::string_view what) {
    if (!names.empty())
      clauses.push_back(fmt::format("{} {}: {}", names.size(), what, first_few(names)));
  };
  add(missing, "missing");
  add(misshapen, "of another shape");
  add(unreal, "not of real numbers");
  add(unknown, "unknown");
  if (clauses.empty()) return;
  std::string text = clauses.front();
  for (size_t i = 1; i < clauses.size(); ++i) text += "; " + clauses[i];
  fail("{}: its arrays are not those of the model '{}' of width {} with {} classes; {}{}", file,
       spec.name, spec.width, spec.classes, text, unknown.empty() ? "" : advice);
}

void check_value(float value, const Segment& segment, const std::string& file) {
  // The largest of NaN logits is class 0, which would count as an answer.
  require(std::isfinite(value),
          "{}: '{}' holds {}, so the network gives no predictions; take a checkpoint from before "
          "the training diverged",
          file, segment.name, value);
  require(value >= 0 || segment.kind != ParamKind::kRunningVariance,
          "{}: '{}' holds {}, but no variance is negative; the file is damaged or was made by "
          "another tool, take another checkpoint",
          file, segment.name, value);
}

template <class Master>
void fill_as(const Entry& entry, const std::vector<float>& values, Device device) {
  std::vector<Master> memory(values.size());
  each_element(*entry.segment, [&](int64_t from, int64_t to) {
    memory[static_cast<size_t>(to)] = values[static_cast<size_t>(from)];
  });
  write_now(device, entry.view, memory.data());
}

void fill(const Entry& entry, const NamedArray& array, Device device, const std::string& file) {
  const std::vector<float> values = to_floats(array, file);
  for (const float value : values) check_value(value, *entry.segment, file);
  if (entry.view.dtype == Dtype::kFloat64)
    fill_as<double>(entry, values, device);
  else
    fill_as<float>(entry, values, device);
}

}  // namespace

bool is_real(const NamedArray& array) {
  return array.dtype == "F32" || array.dtype == "F64" || array.dtype == "F16" ||
         array.dtype == "BF16";
}

std::string first_few(std::span<const std::string> names) {
  constexpr size_t kShown = 3;
  std::string text;
  for (const std::string& name : names.first(std::min(kShown, names.size())))
    text += (text.empty() ? "" : ", ") + name;
  return names.size() > kShown ? fmt::format("{} and {} more", text, names.size() - kShown) : text;
}

std::vector<float> to_floats(const NamedArray& array, const std::string& file) {
  require(is_real(array), "{}: '{}' is an array of {}, not of real numbers", file, array.name,
          array.dtype);
  if (array.dtype == "F16") return converted<uint16_t>(array, half_to_float);
  if (array.dtype == "BF16")
    return converted<BFloat16>(array, [](BFloat16 value) { return to_float(value); });
  if (array.dtype == "F64")
    return converted<double>(array, [](double value) { return static_cast<float>(value); });
  return converted<float>(array, [](float value) { return value; });
}

WeightArrays read_weights(const Model& model) {
  require(model.params().master_dtype() == Dtype::kFloat32,
          "checkpoint: only float32 models are saved");
  WeightArrays out;
  for (const Entry& entry : entries(model.params())) {
    std::vector<float> in_memory(static_cast<size_t>(entry.view.count()));
    read_now(model.params().device(), in_memory.data(), entry.view);
    std::vector<float>& values = out.values.emplace_back(in_memory.size());
    each_element(*entry.segment, [&](int64_t to, int64_t from) {
      values[static_cast<size_t>(to)] = in_memory[static_cast<size_t>(from)];
    });
    out.arrays.push_back(
        {entry.segment->name, "F32", file_shape(*entry.segment), std::as_bytes(std::span(values))});
  }
  return out;
}

std::vector<WeightShape> weight_shapes(const Model& model) {
  std::vector<WeightShape> shapes;
  for (const Entry& entry : entries(model.params()))
    shapes.push_back({entry.segment->name, file_shape(*entry.segment)});
  return shapes;
}

void require_weights(const Model& model, std::span<const NamedArray> arrays,
                     const std::string& file, std::string_view advice) {
  check_arrays(entries(model.params()), by_name(arrays, file), file, model.spec(), advice);
}

void write_weights(Exec& exec, Model& model, std::span<const NamedArray> arrays,
                   const std::string& file) {
  const std::vector<Entry> wanted = entries(model.params());
  const ByName found = by_name(arrays, file);
  check_arrays(wanted, found, file, model.spec());
  for (const Entry& entry : wanted)
    fill(entry, *found.at(entry.segment->name), model.params().device(), file);
  model.params().master_changed(exec);
  model.params().statistics_changed();
}

}  // namespace ringfort
