// Labelled images held whole in memory as bytes, whatever file format they came from. Files are
// checked strictly when they are loaded, so that nothing behind this header meets a wrong size or
// label. Pixels stay raw here: scaling to [0,1] and augmentation are kernels, normalisation by mean
// and std is a model's first layer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ringfort {

struct Dataset {
  std::string name;
  int64_t count = 0;
  int height = 0, width = 0, channels = 0;
  std::vector<uint8_t> pixels;  // (N, H, W, C)
  std::vector<int32_t> labels;  // (N), each in [0, class_names.size())
  std::vector<std::string> class_names;
  std::vector<float> mean, std;  // (C), of the training set's pixels in [0,1]

  int64_t image_bytes() const { return int64_t{height} * width * channels; }
  // Pixels (H, W, C) of image `i`, in [0, count).
  std::span<const uint8_t> image(int64_t i) const;
};

enum class Split { kTrain, kTest };

// The names load_dataset() understands.
std::span<const std::string_view> dataset_names();

// Loads a data set from the official files of its publishers:
//   mnist, fashion-mnist: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-... (IDX format of
//     LeCun et al.), plain, or gzipped under the same name with .gz; of both the plain file is
//     taken
//   cifar10: data_batch_1.bin ... data_batch_5.bin, test_batch.bin (Krizhevsky's binary version),
//     in `dir` or in `dir`/cifar-10-batches-bin
// Throws Error, naming the file, for anything missing, truncated, too long, corrupt or out of
// range.
Dataset load_dataset(std::string_view name, const std::filesystem::path& dir, Split split);

}  // namespace ringfort
