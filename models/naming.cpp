#include "models/naming.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <numeric>
#include <set>

namespace ringfort {
namespace {

constexpr std::string_view kCounter = "num_batches_tracked", kVariance = "running_var";
constexpr int64_t kCounted = 0;

std::string_view last_word(std::string_view name) { return name.substr(name.rfind('.') + 1); }

std::string their_name(const Naming& naming, std::string_view ours) {
  std::string theirs;
  for (size_t begin = 0; begin <= ours.size();) {
    const size_t end = std::min(ours.find('.', begin), ours.size());
    std::string_view word = ours.substr(begin, end - begin);
    for (const auto& [from, to] : naming.words)
      if (word == from) {
        word = to;
        break;
      }
    if (begin > 0) theirs += '.';
    theirs += word;
    begin = end + 1;
  }
  return theirs;
}

// The name in `to` of what is called `name` in `from`; empty where it is not in there.
std::string moved_to_group(std::string_view name, std::string_view from, std::string_view to) {
  if (from.empty() || !name.starts_with(from) || name.substr(from.size(), 1) != ".") return "";
  return std::string(to) + std::string(name.substr(from.size()));
}

void add_normalization(std::vector<NamedArray>& arrays, const ModelSpec& spec) {
  const std::vector<int64_t> shape = {spec.channels, 1, 1};
  arrays.push_back({"mean", "F32", shape, std::as_bytes(std::span(spec.mean))});
  arrays.push_back({"std", "F32", shape, std::as_bytes(std::span(spec.std))});
}

// One way to read a file: a naming and what stands before all names.
struct Reading {
  const Naming* naming;
  std::string prefix;
  std::map<std::string, std::string> ours;  // our names by theirs

  std::string_view without_prefix(const NamedArray& array) const {
    const std::string_view name = array.name;
    return name.starts_with(prefix) ? name.substr(prefix.size()) : std::string_view();
  }
  const std::string* our_name(const NamedArray& array) const {
    const auto found = ours.find(std::string(without_prefix(array)));
    return found == ours.end() ? nullptr : &found->second;
  }
  bool decides_nothing(const NamedArray& array) const {
    const std::string_view name = without_prefix(array);
    if (!moved_to_group(name, naming->unused_group, naming->used_group).empty()) return true;
    if (last_word(name) != kCounter) return false;
    const std::string_view norm = name.substr(0, name.size() - kCounter.size());
    return ours.contains(std::string(norm) + std::string(kVariance));
  }
  int64_t fitting(const SafetensorsFile& file) const {
    return std::count_if(file.arrays.begin(), file.arrays.end(), [&](const NamedArray& array) {
      return our_name(array) != nullptr || decides_nothing(array);
    });
  }
};

// What stands before `name` in the file's names.
std::set<std::string> prefixes_of(std::string_view name, const SafetensorsFile& file) {
  std::set<std::string> prefixes;
  for (const NamedArray& array : file.arrays) {
    if (!array.name.ends_with(name)) continue;
    const std::string prefix = array.name.substr(0, array.name.size() - name.size());
    if (prefix.empty() || prefix.ends_with('.')) prefixes.insert(prefix);
  }
  return prefixes;
}

// The mean or the deviation of a normalisation, by the names that are in use for them.
std::vector<float>* normalization_part(const NamedArray& array, int64_t channels,
                                       Recognised& found) {
  constexpr std::array<std::string_view, 3> kMeans = {"mean", "new_mean", "mu"},
                                            kDeviations = {"std", "new_std", "sigma"};
  const int64_t count = std::accumulate(array.shape.begin(), array.shape.end(), int64_t{1},
                                        std::multiplies<int64_t>());
  if (count != channels || !is_real(array)) return nullptr;
  const std::string_view word = last_word(array.name);
  const auto is_one_of = [&](const auto& words) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  std::vector<float>* part = is_one_of(kMeans)        ? &found.mean
                             : is_one_of(kDeviations) ? &found.std
                                                      : nullptr;
  return part != nullptr && part->empty() ? part : nullptr;
}

Reading best_reading(const SafetensorsFile& file, const Model& model, std::string_view wanted) {
  const std::string& architecture = model.spec().name;
  const std::vector<WeightShape> shapes = weight_shapes(model);
  const Naming& first = wanted.empty() ? namings().front() : find_naming(wanted, architecture);
  Reading best;
  int64_t most = -1;
  for (const Naming& naming : namings()) {
    if (!naming.defines(architecture) || (!wanted.empty() && &naming != &first)) continue;
    Reading reading{&naming, "", {}};
    for (const WeightShape& shape : shapes)
      reading.ours[their_name(naming, shape.name)] = shape.name;
    std::set<std::string> prefixes = {""};
    for (const std::string& name : {shapes.front().name, shapes.back().name})
      prefixes.merge(prefixes_of(their_name(naming, name), file));
    for (const std::string& prefix : prefixes) {
      reading.prefix = prefix;
      const int64_t fitting = reading.fitting(file);
      if (fitting <= most) continue;
      most = fitting;
      best = reading;
    }
  }
  return best;
}

}  // namespace

bool Naming::defines(std::string_view model) const {
  return models.empty() || std::find(models.begin(), models.end(), model) != models.end();
}

const std::vector<Naming>& namings() {
  static const std::vector<Naming> all = {
      {.name = "ringfort"},
      {.name = "torchvision",
       .models = {"resnet18", "resnet50"},
       .words = {{"shortcut", "downsample"}, {"linear", "fc"}}},
      {.name = "trades",
       .models = {"wrn_28_10", "wrn_34_10"},
       .used_group = "block1",
       .unused_group = "sub_block1"},
      {.name = "deepmind", .models = {"wrn_28_10_silu", "wrn_70_16_silu"}, .normalization = true},
  };
  return all;
}

const Naming& find_naming(std::string_view name, std::string_view model) {
  std::vector<std::string_view> fitting;
  for (const Naming& naming : namings()) {
    if (naming.defines(model)) fitting.push_back(naming.name);
    if (naming.name == name && naming.defines(model)) return naming;
  }
  fail("--naming: '{}' has no definition of '{}'; choose {}", name, model,
       fmt::join(fitting, " or "));
}

StateDict state_dict(const Model& model, const Naming& naming) {
  StateDict dict;
  dict.weights = read_weights(model);
  for (NamedArray array : dict.weights.arrays) {
    array.name = their_name(naming, array.name);
    dict.arrays.push_back(array);
    if (last_word(array.name) != kVariance) continue;
    array.name.replace(array.name.size() - kVariance.size(), kVariance.size(), kCounter);
    dict.arrays.push_back(
        {array.name, "I64", {}, std::as_bytes(std::span<const int64_t>(&kCounted, 1))});
  }
  const size_t used = dict.arrays.size();
  for (size_t i = 0; i < used; ++i) {
    NamedArray copy = dict.arrays[i];
    copy.name = moved_to_group(copy.name, naming.used_group, naming.unused_group);
    if (!copy.name.empty()) dict.arrays.push_back(std::move(copy));
  }
  if (naming.normalization) add_normalization(dict.arrays, model.spec());
  return dict;
}

Recognised recognise(const SafetensorsFile& file, const Model& model, std::string_view naming) {
  const Reading reading = best_reading(file, model, naming);
  Recognised found;
  found.naming = reading.naming;
  found.prefix = reading.prefix;
  for (const NamedArray& array : file.arrays) {
    if (const std::string* ours = reading.our_name(array)) {
      found.arrays.push_back(array);
      found.arrays.back().name = *ours;
    } else if (reading.decides_nothing(array)) {
      ++found.skipped;
    } else if (auto* part = normalization_part(array, model.spec().channels, found)) {
      *part = to_floats(array, file.file);
    } else {
      found.arrays.push_back(array);
    }
  }
  return found;
}

}  // namespace ringfort
