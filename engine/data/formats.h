// The file formats behind load_dataset(): internal to engine/data. Each reader of a data set known
// by name fills count, height, width, channels, pixels and labels of a Dataset whose name and class
// names are set; those of images in files fill count, labels, class names and `encoded`. Errors
// name the file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/dataset.h"

namespace ringfort {

// IDX files of MNIST and its drop-in replacements: images of 28 x 28 grey levels, ten classes.
void load_mnist_files(const std::filesystem::path& dir, Split split, Dataset& data);

// CIFAR-10's binary version: 10,000 records of a label byte and planes of 32 x 32 red, green, blue
// per file.
void load_cifar10_files(const std::filesystem::path& dir, Split split, Dataset& data);

// CIFAR-100's binary version: records of a coarse label byte (of 20), a fine one (of 100, the one
// taken) and the same planes; 50,000 in train.bin, 10,000 in test.bin.
void load_cifar100_files(const std::filesystem::path& dir, Split split, Dataset& data);

inline constexpr size_t kMaxClasses = size_t{1} << 20;

// dir/train/CLASS/... and dir/val or dir/test, or dir/CLASS/..., of which split_samples() makes
// two.
void load_image_folder(const std::filesystem::path& dir, Split split, Dataset& data);

// dir/train*.tar and dir/val*.tar or dir/test*.tar, or dir/*.tar, of which split_samples() makes
// two.
void load_webdataset(const std::filesystem::path& dir, Split split, Dataset& data);

// Of a data set without test images of its own: a tenth of the samples, at least one, the same
// every time, is the test set and the rest for training. count >= 2.
std::vector<int64_t> split_samples(int64_t count, Split split);

// Whether a name ends in .jpg, .jpeg or .png, in letters of either case.
bool is_image_name(std::string_view name);

// Decompresses one gzip member that must fill `compressed` entirely and hold at most `max_bytes`;
// its CRC and length are verified. `file` is for the error's sentence.
std::vector<uint8_t> gunzip(std::span<const uint8_t> compressed, size_t max_bytes,
                            const std::string& file);

}  // namespace ringfort
