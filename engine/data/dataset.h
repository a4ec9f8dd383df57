// Labelled images, whatever file format they came from: held whole in memory as bytes, or as files
// that are decoded to one size batch by batch (decoded.h). Files with pixels in them are checked
// strictly when they are loaded, so that nothing behind this header meets a wrong size or label.
// Pixels stay raw here: scaling to [0,1] and augmentation are kernels, normalisation by mean
// and std is a model's first layer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/encoded.h"

namespace ringfort {

struct Dataset {
  std::string name;
  int64_t count = 0;
  int height = 0, width = 0, channels = 0;
  std::vector<uint8_t> pixels;  // (N, H, W, C); none where `encoded` is set
  std::vector<int32_t> labels;  // (N), each in [0, class_names.size())
  std::vector<std::string> class_names;
  std::vector<float> mean, std;                  // (C), of the training set's pixels in [0,1]
  std::shared_ptr<const EncodedImages> encoded;  // images that are decoded when they are needed
  // The last so many images have labels that a model made (pseudo_labels.h), and of them the ones
  // that are trained on.
  int64_t pseudo_count = 0;
  std::vector<int64_t> pseudo_samples;

  int64_t image_bytes() const { return int64_t{height} * width * channels; }
  // Pixels (H, W, C) of image `i`, in [0, count).
  std::span<const uint8_t> image(int64_t i) const;
};

// Error unless pixels, labels, class names and normalisation agree in number and range. What
// load_dataset() returns always does; a data set that a program fills itself is checked by those
// who train and evaluate on it.
void require_consistent(const Dataset& data);

enum class Split { kTrain, kTest };

// The names load_dataset() understands.
std::span<const std::string_view> dataset_names();

// Loads a data set from the official files of its publishers:
//   mnist, fashion-mnist: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-... (IDX format of
//     LeCun et al.), plain, or gzipped under the same name with .gz; of both the plain file is
//     taken
//   cifar10: data_batch_1.bin ... data_batch_5.bin, test_batch.bin (Krizhevsky's binary version),
//     in `dir` or in `dir`/cifar-10-batches-bin
//   cifar100: train.bin, test.bin, in `dir` or in `dir`/cifar-100-binary; the fine labels
// or JPEG and PNG files, with ImageNet's mean and standard deviation:
//   image-folder: `dir`/train/CLASS/*.jpg and `dir`/val or `dir`/test; or `dir`/CLASS/*.jpg, of
//   which
//     a tenth, the same every time, is for testing
//   webdataset: `dir`/train*.tar and `dir`/val*.tar or `dir`/test*.tar, of members NAME.jpg or .png
//     and NAME.cls (a class number), or `dir`/*.tar, split likewise; class names from
//     `dir`/classes.txt or wnids.txt, one a line, where there is one
// image_size: the side of the squares that those become.
// Throws Error, naming the file, for anything missing, truncated, too long, corrupt or out of
// range.
inline constexpr int kDefaultImageSize = 224, kMaxImageSize = 4096;
Dataset load_dataset(std::string_view name, const std::filesystem::path& dir, Split split,
                     int image_size = kDefaultImageSize);

// Whether the images of this data set are JPEG and PNG files.
bool has_encoded_images(std::string_view dataset_name);

}  // namespace ringfort
