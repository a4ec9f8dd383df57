#include "models/naming.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <unordered_map>

namespace ringfort {
namespace {

constexpr std::string_view kCounter = "num_batches_tracked", kVariance = "running_var";
constexpr std::string_view kAveraged = "n_averaged";  // of torch.optim.swa_utils.AveragedModel
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
  std::map<std::string, std::string, std::less<>> ours;  // our names by theirs

  std::string_view without_prefix(const NamedArray& array) const {
    const std::string_view name = array.name;
    return name.starts_with(prefix) ? name.substr(prefix.size()) : std::string_view();
  }
  const std::string* our_name(const NamedArray& array) const {
    const auto found = ours.find(without_prefix(array));
    return found == ours.end() ? nullptr : &found->second;
  }
  bool decides_nothing(const NamedArray& array) const {
    return last_word(array.name) == kAveraged || decides_nothing(without_prefix(array));
  }
  bool decides_nothing(std::string_view name) const {
    if (!moved_to_group(name, naming->unused_group, naming->used_group).empty()) return true;
    if (last_word(name) != kCounter) return false;
    const std::string_view norm = name.substr(0, name.size() - kCounter.size());
    return ours.contains(std::string(norm) + std::string(kVariance));
  }
  // Finds the prefix with which most arrays are known, and how many are. Each name is cut at its
  // last dots only, as many as a name of ours has, so files with many arrays and many prefixes take
  // no more time.
  int64_t choose_prefix(const SafetensorsFile& file) {
    int64_t dots = 0;
    for (const auto& [theirs, unused] : ours)
      dots = std::max<int64_t>(dots, std::count(theirs.begin(), theirs.end(), '.'));
    std::unordered_map<std::string_view, int64_t> known;
    for (const NamedArray& array : file.arrays) {
      const std::string_view name = array.name;
      size_t end = name.size();
      for (int64_t cut = 0; cut <= dots && end > 0; ++cut) {
        const size_t dot = name.rfind('.', end - 1);
        end = dot == name.npos ? 0 : dot;
        const std::string_view rest = name.substr(dot == name.npos ? 0 : dot + 1);
        if (ours.contains(rest) || decides_nothing(rest))
          ++known[name.substr(0, name.size() - rest.size())];
      }
    }
    int64_t most = 0;
    std::string_view best;
    for (const auto& [tried, count] : known)
      if (count > most || (count == most && tried < best)) most = count, best = tried;
    prefix = best;
    return most;
  }
};

// The names that are in use for a normalisation, of its mean and of its standard deviation.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kNormalizations = {
    {{"mean", "std"}, {"new_mean", "new_std"}, {"mu", "sigma"}}};

bool is_per_channel(const NamedArray* array, int64_t channels) {
  return array != nullptr && is_real(*array) &&
         to_floats(*array, "").size() == static_cast<size_t>(channels);
}

// Mean and standard deviation that stand side by side; nothing where the file has one without the
// other.
std::pair<const NamedArray*, const NamedArray*> find_normalization(
    const std::vector<NamedArray>& arrays, int64_t channels) {
  std::unordered_map<std::string_view, const NamedArray*> by_name;
  for (const NamedArray& array : arrays) by_name[array.name] = &array;
  for (const NamedArray& mean : arrays)
    for (const auto& [first, second] : kNormalizations) {
      if (last_word(mean.name) != first) continue;
      const std::string name =
          mean.name.substr(0, mean.name.size() - first.size()) + std::string(second);
      const auto std = by_name.find(name);
      if (std != by_name.end() && is_per_channel(&mean, channels) &&
          is_per_channel(std->second, channels))
        return {&mean, std->second};
    }
  return {};
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
    const int64_t known = reading.choose_prefix(file);
    if (known <= most) continue;
    most = known;
    best = std::move(reading);
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
  const auto [mean, std] = find_normalization(file.arrays, model.spec().channels);
  for (const NamedArray& array : file.arrays) {
    if (const std::string* ours = reading.our_name(array)) {
      found.arrays.push_back(array);
      found.arrays.back().name = *ours;
    } else if (reading.decides_nothing(array)) {
      ++found.skipped;
    } else if (&array == mean) {
      found.mean = to_floats(array, file.file);
    } else if (&array == std) {
      found.std = to_floats(array, file.file);
    } else {
      require(found.prefix.empty() || !reading.ours.contains(array.name) ||
                  !file.contains(found.prefix + array.name),
              "{}: holds both '{}' and '{}{}', so which network is meant is not known; keep the "
              "arrays of one",
              file.file, array.name, found.prefix, array.name);
      found.arrays.push_back(array);
    }
  }
  return found;
}

}  // namespace ringfort
