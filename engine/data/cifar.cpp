// The binary versions of CIFAR-10 and CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html).
// Their files have no header at all, so the exact size is the one thing that tells a whole file
// from a truncated one. A record is its label bytes, then planes of 32 x 32 red, green and blue.
#include "engine/data/formats.h"
#include "engine/files.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr int kSide = 32, kChannels = 3;
constexpr size_t kPlane = size_t{kSide} * kSide;
constexpr size_t kMaxFileBytes = size_t{1} << 28;  // the largest has 154 MB

struct CifarLayout {
  std::string_view title;  // "CIFAR-10"
  std::string_view below;  // the folder in its publishers' archive
  size_t label_bytes;      // the last is the label
  size_t records;          // in every file
  std::vector<std::string> files;
};

std::filesystem::path folder_with_files(const std::filesystem::path& dir,
                                        const CifarLayout& layout) {
  const std::filesystem::path below = dir / layout.below;
  std::error_code ignored;
  for (const std::filesystem::path& folder : {dir, below})
    if (std::filesystem::exists(folder / layout.files.front(), ignored)) return folder;
  fail("neither '{}' nor '{}' holds {}; give the folder of {}'s binary version (*.bin)",
       dir.string(), below.string(), layout.files.front(), layout.title);
}

// Appends one file's images, planes (C, H, W) turned into pixels (H, W, C), and labels.
void append_file(const std::filesystem::path& path, const CifarLayout& layout, Dataset& data) {
  const size_t record_bytes = layout.label_bytes + kChannels * kPlane;
  const size_t expected = layout.records * record_bytes;
  const std::vector<uint8_t> bytes = read_file(path, kMaxFileBytes);
  require(bytes.size() == expected,
          "'{}' has {} bytes, a {} file has {}: it is {}; copy or download it again", path.string(),
          bytes.size(), layout.title, expected, bytes.size() < expected ? "truncated" : "too long");
  const size_t first = data.pixels.size();
  data.pixels.resize(first + layout.records * kChannels * kPlane);
  uint8_t* pixel = data.pixels.data() + first;
  for (size_t i = 0; i < layout.records; ++i) {
    const uint8_t* red = bytes.data() + i * record_bytes + layout.label_bytes;
    const uint8_t label = red[-1];
    require(label < data.class_names.size(),
            "'{}': image {} has label {}, but {} has {} classes; copy or download it again",
            path.string(), i, int{label}, data.name, data.class_names.size());
    data.labels.push_back(label);
    for (size_t p = 0; p < kPlane; ++p)
      for (size_t c = 0; c < kChannels; ++c) *pixel++ = red[c * kPlane + p];
  }
}

void load_cifar_files(const std::filesystem::path& dir, const CifarLayout& layout, Dataset& data) {
  const std::filesystem::path folder = folder_with_files(dir, layout);
  data.height = data.width = kSide;
  data.channels = kChannels;
  data.pixels.reserve(layout.files.size() * layout.records * kChannels * kPlane);
  for (const std::string& file : layout.files) append_file(folder / file, layout, data);
  data.count = static_cast<int64_t>(data.labels.size());
}

}  // namespace

void load_cifar10_files(const std::filesystem::path& dir, Split split, Dataset& data) {
  CifarLayout layout{"CIFAR-10", "cifar-10-batches-bin", 1, 10000, {"test_batch.bin"}};
  if (split == Split::kTrain)
    layout.files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                    "data_batch_5.bin"};
  load_cifar_files(dir, layout, data);
}

void load_cifar100_files(const std::filesystem::path& dir, Split split, Dataset& data) {
  CifarLayout layout{"CIFAR-100", "cifar-100-binary", 2, 10000, {"test.bin"}};
  if (split == Split::kTrain) layout.records = 50000, layout.files = {"train.bin"};
  load_cifar_files(dir, layout, data);
}

}  // namespace ringfort
