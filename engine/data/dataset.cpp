// The data sets known by name: what is constant about each, and which reader loads it.
#include "engine/data/dataset.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "engine/data/formats.h"
#include "engine/data/hold_out.h"
#include "engine/edit_distance.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr std::array<std::string_view, 6> kNames{"fashion-mnist", "mnist",        "cifar10",
                                                 "cifar100",      "image-folder", "webdataset"};

// In the order of the fine labels.
constexpr std::array<std::string_view, 100> kCifar100Classes{
    "apple",       "aquarium_fish", "baby",      "bear",       "beaver",       "bed",
    "bee",         "beetle",        "bicycle",   "bottle",     "bowl",         "boy",
    "bridge",      "bus",           "butterfly", "camel",      "can",          "castle",
    "caterpillar", "cattle",        "chair",     "chimpanzee", "clock",        "cloud",
    "cockroach",   "couch",         "crab",      "crocodile",  "cup",          "dinosaur",
    "dolphin",     "elephant",      "flatfish",  "forest",     "fox",          "girl",
    "hamster",     "house",         "kangaroo",  "keyboard",   "lamp",         "lawn_mower",
    "leopard",     "lion",          "lizard",    "lobster",    "man",          "maple_tree",
    "motorcycle",  "mountain",      "mouse",     "mushroom",   "oak_tree",     "orange",
    "orchid",      "otter",         "palm_tree", "pear",       "pickup_truck", "pine_tree",
    "plain",       "plate",         "poppy",     "porcupine",  "possum",       "rabbit",
    "raccoon",     "ray",           "road",      "rocket",     "rose",         "sea",
    "seal",        "shark",         "shrew",     "skunk",      "skyscraper",   "snail",
    "snake",       "spider",        "squirrel",  "streetcar",  "sunflower",    "sweet_pepper",
    "table",       "tank",          "telephone", "television", "tiger",        "tractor",
    "train",       "trout",         "tulip",     "turtle",     "wardrobe",     "whale",
    "willow_tree", "wolf",          "woman",     "worm"};

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
  require(!encoded, "data set {}: its images are decoded, not kept", name);
  require(i >= 0 && i < count, "data set {}: image {} was asked for, it has {}", name, i, count);
  const auto size = static_cast<size_t>(image_bytes());
  return std::span(pixels).subspan(static_cast<size_t>(i) * size, size);
}

void require_consistent(const Dataset& data) {
  require(data.count >= 1 && data.height >= 1 && data.width >= 1 && data.channels >= 1,
          "data set {}: {} images of {} x {} x {}; every number must be at least 1", data.name,
          data.count, data.height, data.width, data.channels);
  const int64_t bytes = data.encoded ? 0 : data.count * data.image_bytes();
  require(std::ssize(data.pixels) == bytes,
          "data set {}: {} images of {} x {} x {} are {} bytes, it has {} in `pixels`", data.name,
          data.count, data.height, data.width, data.channels, bytes, data.pixels.size());
  require(std::ssize(data.labels) == data.count, "data set {}: {} images have {} labels", data.name,
          data.count, data.labels.size());
  for (size_t i = 0; i < data.labels.size(); ++i)
    require(data.labels[i] >= 0 && data.labels[i] < std::ssize(data.class_names),
            "data set {}: image {} has label {}, but there are {} class names; labels count from 0",
            data.name, i, data.labels[i], data.class_names.size());
  for (const std::vector<float>* values : {&data.mean, &data.std})
    require(values->empty() || std::ssize(*values) == data.channels,
            "data set {}: {} means and {} standard deviations for {} channels; give one for each, "
            "or none",
            data.name, data.mean.size(), data.std.size(), data.channels);
}

std::span<const std::string_view> dataset_names() { return kNames; }

bool has_encoded_images(std::string_view dataset_name) {
  return dataset_name == "image-folder" || dataset_name == "webdataset";
}

std::vector<int64_t> split_samples(int64_t count, Split split) {
  constexpr uint64_t kSeed = 0;  // of every split: which images are tested is not the user's choice
  require(count >= 2, "one image cannot be split into training and test images");
  HoldOut parts = split_hold_out(count, std::max<int64_t>(count / 10, 1), kSeed);
  return split == Split::kTrain ? std::move(parts.training) : std::move(parts.held_out);
}

bool is_image_name(std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == name.npos) return false;
  std::string extension(name.substr(dot));
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

Dataset load_dataset(std::string_view name, const std::filesystem::path& dir, Split split,
                     int image_size) {
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
  } else if (has_encoded_images(name)) {
    require(image_size >= 1 && image_size <= kMaxImageSize,
            "data set {}: images of {} x {} pixels were asked for; give 1 to {}", name, image_size,
            image_size, kMaxImageSize);
    data.height = data.width = image_size;
    data.channels = 3;
    data.mean = {0.485f, 0.456f, 0.406f};
    data.std = {0.229f, 0.224f, 0.225f};
    (name == "image-folder" ? load_image_folder : load_webdataset)(dir, split, data);
  } else if (name == "cifar100") {
    data.class_names.assign(kCifar100Classes.begin(), kCifar100Classes.end());
    data.mean = {0.5071f, 0.4865f, 0.4409f};
    data.std = {0.2673f, 0.2564f, 0.2762f};
    load_cifar100_files(dir, split, data);
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
