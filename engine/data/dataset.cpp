// The data sets known by name: what is constant about each, and which reader loads it.
#include "engine/data/dataset.h"

#include <algorithm>
#include <array>

#include "engine/data/formats.h"
#include "engine/edit_distance.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr std::array<std::string_view, 3> kNames{"fashion-mnist", "mnist", "cifar10"};

[[noreturn]] void fail_unknown_name(std::string_view name) {
  std::array<std::string_view, kNames.size()> known = kNames;
  const std::string_view compared = name.substr(0, 64);  // a long one is far from every name anyway
  std::stable_sort(known.begin(), known.end(), [&](std::string_view a, std::string_view b) {
    return edit_distance(compared, a) < edit_distance(compared, b);
  });
  fail("unknown data set '{}'; known are {} (nearest first)", name, fmt::join(known, ", "));
}

}  // namespace

std::span<const uint8_t> Dataset::image(int64_t i) const {
  require(i >= 0 && i < count, "data set {}: image {} was asked for, it has {}", name, i, count);
  const auto size = static_cast<size_t>(image_bytes());
  return std::span(pixels).subspan(static_cast<size_t>(i) * size, size);
}

std::span<const std::string_view> dataset_names() { return kNames; }

Dataset load_dataset(std::string_view name, const std::filesystem::path& dir, Split split) {
  if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) fail_unknown_name(name);
  std::error_code ignored;
  require(std::filesystem::is_directory(dir, ignored),
          "data set {}: '{}' is not a folder; give the folder that holds its files", name,
          dir.string());
  Dataset data;
  data.name = name;
  if (name == "cifar10") {
    data.class_names = {"airplane", "automobile", "bird",  "cat",  "deer",
                        "dog",      "frog",       "horse", "ship", "truck"};
    data.mean = {0.4914f, 0.4822f, 0.4465f};
    data.std = {0.2471f, 0.2435f, 0.2616f};
    load_cifar10_files(dir, split, data);
  } else if (name == "mnist") {
    data.class_names = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    data.mean = {0.1307f};
    data.std = {0.3081f};
    load_mnist_files(dir, split, data);
  } else {
    data.class_names = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                        "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
    data.mean = {0.2860f};
    data.std = {0.3530f};
    load_mnist_files(dir, split, data);
  }
  return data;
}

}  // namespace ringfort
