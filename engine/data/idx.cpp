// IDX, the format of MNIST (http://yann.lecun.com/exdb/mnist): a big-endian magic number 0x000008DD
// (unsigned bytes, DD dimensions), the dimensions as big-endian 32-bit numbers, then the bytes.
// Grey images: channels last is as is.
#include <algorithm>
#include <string_view>

#include "engine/data/formats.h"
#include "engine/files.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 28;  // five times the 47 MB of 60,000 images
constexpr int kSide = 28;

struct IdxFile {
  std::string file;
  std::vector<int64_t> dims;
  std::vector<uint8_t> values;
};

uint32_t big_endian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

// Reads `dir`/`name` or `dir`/`name`.gz, which must hold unsigned bytes of `rank` dimensions.
IdxFile read_idx(const std::filesystem::path& dir, std::string_view name, int rank) {
  std::filesystem::path path = dir / name;
  std::error_code ignored;
  const bool plain = std::filesystem::exists(path, ignored);
  if (!plain) path += ".gz";
  require(plain || std::filesystem::exists(path, ignored),
          "folder '{}' has neither {} nor {}.gz; give the folder that holds the data set's files",
          dir.string(), name, name);
  IdxFile idx;
  idx.file = path.string();
  idx.values = read_file(path, kMaxBytes);
  if (!plain) idx.values = gunzip(idx.values, kMaxBytes, idx.file);

  const size_t header = 4 + 4 * static_cast<size_t>(rank);
  const uint32_t magic = idx.values.size() < 4 ? 0 : big_endian(idx.values.data());
  const uint32_t expected_magic = 0x0800u + static_cast<uint32_t>(rank);
  require(idx.values.size() < 4 || magic == expected_magic,
          "'{}' starts with 0x{:08x} where 0x{:08x} is expected; is it the IDX file of that name?",
          idx.file, magic, expected_magic);
  require(
      idx.values.size() >= header,
      "'{}' is truncated: it has {} bytes, its header alone takes {}; copy or download it again",
      idx.file, idx.values.size(), header);
  uint64_t expected = 1;
  for (int d = 0; d < rank; ++d) {
    const uint32_t dim = big_endian(idx.values.data() + 4 + 4 * d);
    require(dim >= 1 && dim <= kMaxBytes / expected,
            "'{}' has a dimension of {}, which cannot be; copy or download it again", idx.file,
            dim);
    expected *= dim;
    idx.dims.push_back(dim);
  }
  const uint64_t present = idx.values.size() - header;
  require(present >= expected,
          "'{}' is truncated: {} bytes after its header, {} expected; copy or download it again",
          idx.file, present, expected);
  require(present == expected, "'{}' has {} bytes after its end; copy or download it again",
          idx.file, present - expected);
  idx.values.erase(idx.values.begin(), idx.values.begin() + static_cast<std::ptrdiff_t>(header));
  return idx;
}

}  // namespace

void load_mnist_files(const std::filesystem::path& dir, Split split, Dataset& data) {
  const std::string prefix = split == Split::kTrain ? "train" : "t10k";
  IdxFile images = read_idx(dir, prefix + "-images-idx3-ubyte", 3);
  require(images.dims[1] == kSide && images.dims[2] == kSide,
          "'{}' has images of {} x {} pixels, {} has {} x {}; is it the right folder?", images.file,
          images.dims[1], images.dims[2], data.name, kSide, kSide);
  const IdxFile labels = read_idx(dir, prefix + "-labels-idx1-ubyte", 1);
  require(labels.dims[0] == images.dims[0],
          "'{}' has {} labels for the {} images of '{}'; use files that belong together",
          labels.file, labels.dims[0], images.dims[0], images.file);
  const auto bad = std::find_if(labels.values.begin(), labels.values.end(),
                                [&](uint8_t y) { return y >= data.class_names.size(); });
  require(bad == labels.values.end(),
          "'{}': label {} is {}, but {} has {} classes; copy or download it again", labels.file,
          bad - labels.values.begin(), bad == labels.values.end() ? 0 : int{*bad}, data.name,
          data.class_names.size());
  data.count = images.dims[0];
  data.height = data.width = kSide;
  data.channels = 1;
  data.pixels = std::move(images.values);
  data.labels.assign(labels.values.begin(), labels.values.end());
}

}  // namespace ringfort
