// Reads and writes safetensors files (https://github.com/huggingface/safetensors): a little-endian
// 64-bit header length, a JSON header, the tensors' bytes back to back. Other tools read our files;
// on top of the format ours carry a checksum over everything, so a bit flipped anywhere is refused.
// What the tensors mean is not known here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ringfort {

// An array and where its bytes lie: row-major, little-endian. `dtype` is F32, F64, F16,
// BF16, I64, I32 or U8.
struct NamedArray {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

// "64, 3, 3, 3"; empty for a scalar.
std::string shape_text(std::span<const int64_t> shape);

struct SafetensorsFile {
  SafetensorsFile() = default;
  SafetensorsFile(SafetensorsFile&&) = default;  // not copyable: the arrays point into `content`
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

  std::string file;                             // its path, for error messages
  std::map<std::string, std::string> metadata;  // without the two entries that Ringfort adds
  bool checked = false;                         // the file carried a checksum, and it was right
  std::vector<NamedArray> arrays;  // in the order of their bytes; maybe unaligned: use memcpy
  std::vector<uint8_t> content;    // the whole file, which the arrays point into

  bool contains(std::string_view name) const;
  // Throws Error, naming the file, when there is no array of that name.
  const NamedArray& at(std::string_view name) const;
};

// Writes the arrays atomically (write_file_atomic), larger dtypes first and then by name, so that
// every array is aligned to its dtype. Adds the metadata "ringfort.format" and "ringfort.checksum":
// XXH3-128 (hex) over the rest of the header, as canonical JSON, and the data. Names must be
// unique and UTF-8; metadata must not have these two keys.
void save_safetensors(const std::filesystem::path& path, std::span<const NamedArray> arrays,
                      const std::map<std::string, std::string>& metadata);

// Loads and checks a file: header of at most 100 MB, known dtypes, sizes that agree, data without
// overlaps, holes or rest, no name twice, the checksum where there is one. Throws Error with one
// sentence that names the file.
SafetensorsFile load_safetensors(const std::filesystem::path& path);

}  // namespace ringfort
