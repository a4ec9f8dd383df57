// The file formats behind load_dataset(): internal to engine/data. Each reader fills count, height,
// width, channels, pixels and labels of a Dataset whose name and class names are set, and throws
// Error, naming the file, otherwise.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "engine/data/dataset.h"

namespace ringfort {

// IDX files of MNIST and its drop-in replacements: images of 28 x 28 grey levels, ten classes.
void load_mnist_files(const std::filesystem::path& dir, Split split, Dataset& data);

// CIFAR-10's binary version: 10,000 records of a label byte and planes of 32 x 32 red, green, blue
// per file.
void load_cifar10_files(const std::filesystem::path& dir, Split split, Dataset& data);

// Decompresses one gzip member that must fill `compressed` entirely and hold at most `max_bytes`;
// its CRC and length are verified. `file` is for the error's sentence.
std::vector<uint8_t> gunzip(std::span<const uint8_t> compressed, size_t max_bytes,
                            const std::string& file);

}  // namespace ringfort
