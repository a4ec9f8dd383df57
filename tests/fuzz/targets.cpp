#include "tests/fuzz/targets.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "engine/data/dataset.h"
#include "engine/data/formats.h"
#include "engine/data/image.h"
#include "engine/data/tar_index.h"
#include "engine/safetensors.h"
#include "kernels/error.h"
#include "models/checkpoint.h"
#include "models/naming.h"
#include "tools/recipe_file.h"

namespace ringfort::test {
namespace {

namespace fs = std::filesystem;

// A promise that was not kept: the fuzzer, or the test, stops here.
void must(bool kept, std::string_view promise) {
  if (kept) return;
  fmt::print(stderr, "fuzz: not kept: {}\n", promise);
  std::abort();
}

// Whether `action` accepts; refuses it otherwise, by one sentence on one line.
template <class Action>
bool accepted(const Action& action) {
  try {
    action();
    return true;
  } catch (const Error& error) {
    const std::string_view sentence = error.what();
    must(!sentence.empty(), "an error says something");
    must(std::none_of(sentence.begin(), sentence.end(),
                      [](unsigned char c) { return c < ' ' || c == 127; }),
         "an error is a line that does nothing to a terminal");
    return false;
  }
}

// The folder that a process keeps its input in, for readers of files.
class Scratch {
 public:
  Scratch() {
    std::string pattern = (fs::temp_directory_path() / "ringfort-fuzz-XXXXXX").string();
    must(::mkdtemp(pattern.data()) != nullptr, "there is a folder for temporary files");
    folder_ = pattern;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  const fs::path& folder() const { return folder_; }
  fs::path file(const char* name, std::span<const uint8_t> bytes) const {
    std::ofstream out(folder_ / name, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
    out.close();
    must(out.good(), "the folder for temporary files can be written to");
    return folder_ / name;
  }

 private:
  fs::path folder_;
};

const Scratch& scratch() {
  static const Scratch folder;
  return folder;
}

void fuzz_safetensors(std::span<const uint8_t> bytes) {
  const fs::path path = scratch().file("a.safetensors", bytes);
  accepted([&] {
    const SafetensorsFile file = load_safetensors(path);
    const auto content = std::as_bytes(std::span(file.content));
    const std::byte* end = content.data();
    for (const NamedArray& array : file.arrays) {
      must(file.at(array.name).name == array.name, "an array is found by its name");
      must(array.bytes.data() >= end, "arrays do not overlap");
      end = array.bytes.data() + array.bytes.size();
    }
    must(end <= content.data() + content.size(), "an array lies in its file");
  });
}

// As a checkpoint of ours, and as weights of each model and naming.
void fuzz_weights(std::span<const uint8_t> bytes) {
  const fs::path path = scratch().file("a.safetensors", bytes);
  accepted([&] {
    const SafetensorsFile file = load_safetensors(path);
    accepted([&] { outline(read_spec(file), file.file); });
    for (const ModelEntry& entry : model_registry()) {
      if (entry.name.starts_with("wrn_70")) continue;  // wrn_28_10_silu with more blocks
      ModelSpec spec;
      spec.name = entry.name;
      spec.width = 2;
      const auto model = outline(spec, file.file);
      accepted([&] {
        const Recognised found = recognise(file, *model, "");
        must(found.mean.size() == found.std.size(), "a normalisation is whole");
        must(static_cast<int64_t>(found.arrays.size()) + found.skipped +
                     (found.mean.empty() ? 0 : 2) ==
                 static_cast<int64_t>(file.arrays.size()),
             "no array is lost");
        require_weights(*model, found.arrays, file.file);
      });
    }
  });
}

void fuzz_tar(std::span<const uint8_t> bytes) {
  const fs::path path = scratch().file("a.tar", bytes);
  accepted([&] {
    for (const TarSample& sample : index_tar(path)) {
      must(sample.offset >= 0 && sample.bytes >= 0 &&
               sample.offset + sample.bytes <= static_cast<int64_t>(bytes.size()),
           "a sample lies in its shard");
      must(sample.label >= 0 && sample.label < static_cast<int32_t>(kMaxClasses),
           "a label is in its range");
    }
  });
}

// Whole, and a region of it reduced, both chosen by the picture's size. Large ones only in part:
// what they cost is known, and would leave no time for others.
void fuzz_image(std::span<const uint8_t> bytes) {
  constexpr int64_t kMostPixels = 1 << 20;
  accepted([&] {
    ImageReader reader(bytes, "a.jpg");
    const ImageSize size = reader.size();
    must(size.height >= 1 && size.width >= 1 && size.pixels() <= kMaxImagePixels,
         "a picture has a size that is read");
    if (size.pixels() > kMostPixels) return;
    Image image;
    reader.read(image);
    must(image.pixels.size() == 3 * static_cast<size_t>(size.pixels()), "a picture is whole");
  });
  accepted([&] {
    ImageReader reader(bytes, "a.jpg");
    if (reader.size().pixels() > kMostPixels) return;
    const int reduction = reader.reduces() ? 1 << bytes.size() % 4 : 1;
    const int64_t height = (reader.size().height + reduction - 1) / reduction;
    const int64_t width = (reader.size().width + reduction - 1) / reduction;
    const Region region{height / 3, width / 4, (height + 2) / 3, (width + 1) / 2};
    Image image;
    reader.read(region, reduction, image);
    must(image.region.top <= region.top && image.region.bottom() >= region.bottom() &&
             image.region.left <= region.left && image.region.right() >= region.right(),
         "the region asked for is decoded");
    must(image.pixels.size() == 3 * static_cast<size_t>(image.region.height * image.region.width),
         "a region is whole");
  });
}

// As the images of two labels, and as the labels of two images.
void fuzz_idx(std::span<const uint8_t> bytes) {
  constexpr std::array<uint8_t, 10> kLabels{0, 0, 8, 1, 0, 0, 0, 2, 9, 0};
  std::vector<uint8_t> images{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28};
  images.resize(images.size() + 2 * 28 * 28, 1);
  const auto load = [](std::span<const uint8_t> image_file, std::span<const uint8_t> label_file) {
    scratch().file("train-images-idx3-ubyte", image_file);
    scratch().file("train-labels-idx1-ubyte", label_file);
    accepted([] {
      const Dataset data = load_dataset("mnist", scratch().folder(), Split::kTrain);
      must(data.count == 2 && data.labels.size() == 2 && data.pixels.size() == 2 * 28 * 28,
           "every image has its label");
      for (const int32_t label : data.labels) must(label >= 0 && label < 10, "labels are digits");
    });
  };
  load(bytes, kLabels);
  load(images, bytes);
}

void fuzz_gzip(std::span<const uint8_t> bytes) {
  constexpr size_t kMost = 1 << 20;
  accepted([&] { must(gunzip(bytes, kMost, "a.gz").size() <= kMost, "a bomb is stopped"); });
}

// What is read is also written into the run's folder, from where it must be read again.
void fuzz_recipe(std::span<const uint8_t> bytes) {
  const fs::path path = scratch().file("a.toml", bytes);
  std::string text;
  if (!accepted([&] { text = to_toml(read_recipe(path)); })) return;
  scratch().file("a.toml", {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  must(accepted([&] { must(to_toml(read_recipe(path)) == text, "a recipe stays what it is"); }),
       "a recipe that was read is written so that it can be read");
}

}  // namespace

std::span<const FuzzTarget> fuzz_targets() {
  static constexpr std::array<FuzzTarget, 8> kTargets{{{"safetensors", fuzz_safetensors},
                                                       {"weights", fuzz_weights},
                                                       {"tar", fuzz_tar},
                                                       {"jpeg", fuzz_image},
                                                       {"png", fuzz_image},
                                                       {"idx", fuzz_idx},
                                                       {"gzip", fuzz_gzip},
                                                       {"recipe", fuzz_recipe}}};
  return kTargets;
}

}  // namespace ringfort::test
