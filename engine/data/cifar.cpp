// CIFAR-10's binary version (https://www.cs.toronto.edu/~kriz/cifar.html). Its files have no header
// at all, so the exact size is the one thing that tells a whole file from a truncated one: every
// official file has 10,000 records.
#include "engine/data/formats.h"
#include "engine/files.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr int kSide = 32, kChannels = 3, kRecordsPerFile = 10000;
constexpr size_t kPlane = size_t{kSide} * kSide;
constexpr size_t kRecord = 1 + kChannels * kPlane;
constexpr size_t kFileBytes = kRecordsPerFile * kRecord;

std::filesystem::path folder_with(const std::filesystem::path& dir, const std::string& file) {
  const std::filesystem::path below = dir / "cifar-10-batches-bin";
  std::error_code ignored;
  for (const std::filesystem::path& folder : {dir, below})
    if (std::filesystem::exists(folder / file, ignored)) return folder;
  fail("neither '{}' nor '{}' holds {}; give the folder of CIFAR-10's binary version (*.bin)",
       dir.string(), below.string(), file);
}

// Appends one file's images, planes (C, H, W) turned into pixels (H, W, C), and labels.
void append_batch(const std::filesystem::path& path, Dataset& data) {
  const std::vector<uint8_t> bytes = read_file(path, 2 * kFileBytes);
  require(bytes.size() == kFileBytes,
          "'{}' has {} bytes, a CIFAR-10 batch has {}: it is {}; copy or download it again",
          path.string(), bytes.size(), kFileBytes,
          bytes.size() < kFileBytes ? "truncated" : "too long");
  const size_t first = data.pixels.size();
  data.pixels.resize(first + kRecordsPerFile * kChannels * kPlane);
  uint8_t* pixel = data.pixels.data() + first;
  for (size_t i = 0; i < kRecordsPerFile; ++i) {
    const uint8_t* record = bytes.data() + i * kRecord;
    require(record[0] < data.class_names.size(),
            "'{}': image {} has label {}, but {} has {} classes; copy or download it again",
            path.string(), i, int{record[0]}, data.name, data.class_names.size());
    data.labels.push_back(record[0]);
    const uint8_t* red = record + 1;
    for (size_t p = 0; p < kPlane; ++p)
      for (size_t c = 0; c < kChannels; ++c) *pixel++ = red[c * kPlane + p];
  }
}

}  // namespace

void load_cifar10_files(const std::filesystem::path& dir, Split split, Dataset& data) {
  std::vector<std::string> files{"test_batch.bin"};
  if (split == Split::kTrain)
    files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
             "data_batch_5.bin"};
  const std::filesystem::path folder = folder_with(dir, files.front());
  data.height = data.width = kSide;
  data.channels = kChannels;
  data.pixels.reserve(files.size() * kRecordsPerFile * kChannels * kPlane);
  for (const std::string& file : files) append_batch(folder / file, data);
  data.count = static_cast<int64_t>(data.labels.size());
}

}  // namespace ringfort
