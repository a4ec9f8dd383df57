// WebDataset: samples in tar files ("shards"), train-*.tar beside val-*.tar or test-*.tar, or
// *.tar. Headers are read once, images where they lie in the tar file, so that an epoch's order can
// be any and need not follow the shards. Class names come from classes.txt or wnids.txt beside the
// shards.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "engine/data/encoded.h"
#include "engine/data/formats.h"
#include "engine/data/tar_index.h"
#include "engine/files.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

namespace fs = std::filesystem;

struct Shards {
  std::vector<fs::path> paths;
  std::vector<TarSample> samples;
  std::vector<int32_t> shard_of;  // of each sample

  void add(const fs::path& path) {
    std::vector<TarSample> more = index_tar(path);
    shard_of.resize(shard_of.size() + more.size(), static_cast<int32_t>(paths.size()));
    std::move(more.begin(), more.end(), std::back_inserter(samples));
    paths.push_back(path);
    require(static_cast<int64_t>(samples.size()) <= kMaxEncodedImages,
            "'{}' and the shards before it hold more than {} images", path.string(),
            kMaxEncodedImages);
  }
};

class ShardImages final : public EncodedImages {
 public:
  explicit ShardImages(Shards shards) : shards_(std::move(shards)) {}

  std::string name(int64_t i) const override { return path(i).string() + ": " + sample(i).key; }
  std::vector<uint8_t> read(int64_t i) const override {
    const int file = ::open(path(i).c_str(), O_RDONLY | O_CLOEXEC);
    require(file >= 0, "'{}' cannot be read: {}", name(i), std::generic_category().message(errno));
    std::vector<uint8_t> bytes(static_cast<size_t>(sample(i).bytes));
    size_t filled = 0;
    ssize_t got = 1;
    while (filled < bytes.size() && got > 0) {
      got = ::pread(file, bytes.data() + filled, bytes.size() - filled,
                    sample(i).offset + static_cast<off_t>(filled));
      if (got < 0 && errno == EINTR)
        got = 1;
      else if (got > 0)
        filled += static_cast<size_t>(got);
    }
    const int error = got < 0 ? errno : 0;
    ::close(file);
    require(filled == bytes.size(), "'{}' cannot be read: {}", name(i),
            error != 0 ? std::generic_category().message(error) : "its shard has become shorter");
    return bytes;
  }

 private:
  const TarSample& sample(int64_t i) const { return shards_.samples.at(static_cast<size_t>(i)); }
  const fs::path& path(int64_t i) const {
    return shards_.paths[static_cast<size_t>(shards_.shard_of.at(static_cast<size_t>(i)))];
  }
  const Shards shards_;
};

// Sorted by name.
std::vector<fs::path> tar_files(const fs::path& dir) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator at(dir, error), end; !error && at != end; at.increment(error))
    if (at->path().extension() == ".tar") paths.push_back(at->path());
  require(!error, "'{}' cannot be read: {}", dir.string(), error.message());
  require(!paths.empty(), "'{}' holds no shards (*.tar); give the folder that does", dir.string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool is_named(const fs::path& path, std::string_view prefix) {
  return path.filename().string().starts_with(prefix);
}

std::vector<std::string> names_from(const fs::path& file) {
  const std::string text = read_text(file);
  std::vector<std::string> names;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string name = text.substr(begin, end - begin);
    if (name.ends_with('\r')) name.pop_back();
    require(!name.empty(), "'{}': line {} is empty; it has one class name a line", file.string(),
            names.size() + 1);
    names.push_back(std::move(name));
    begin = end + 1;
  }
  require(names.size() >= 2 && names.size() <= kMaxClasses,
          "'{}' has {} lines; it has one class name a line, 2 to {}", file.string(), names.size(),
          kMaxClasses);
  return names;
}

// The names where there are any, otherwise numbers up to the largest label of all shards.
std::vector<std::string> class_names(const fs::path& dir, const std::vector<const Shards*>& all) {
  int32_t largest = 0;
  const TarSample* with = nullptr;
  for (const Shards* shards : all)
    for (const TarSample& sample : shards->samples)
      if (with == nullptr || sample.label > largest) largest = sample.label, with = &sample;
  for (const char* file : {"classes.txt", "wnids.txt"}) {
    if (!fs::exists(dir / file)) continue;
    std::vector<std::string> names = names_from(dir / file);
    require(with == nullptr || static_cast<size_t>(largest) < names.size(),
            "sample '{}' has label {}, but '{}' names {} classes",
            with != nullptr ? with->key : std::string(), largest, (dir / file).string(),
            names.size());
    return names;
  }
  std::vector<std::string> names;
  for (int32_t label = 0; label <= std::max(largest, 1); ++label)
    names.push_back(std::to_string(label));
  return names;
}

Shards part_of(Shards& all, Split split) {
  Shards part;
  part.paths = all.paths;
  for (const int64_t i : split_samples(static_cast<int64_t>(all.samples.size()), split)) {
    part.samples.push_back(all.samples[static_cast<size_t>(i)]);
    part.shard_of.push_back(all.shard_of[static_cast<size_t>(i)]);
  }
  return part;
}

}  // namespace

void load_webdataset(const fs::path& dir, Split split, Dataset& data) {
  Shards train, test, unnamed;
  for (const fs::path& path : tar_files(dir)) {
    const bool is_test = is_named(path, "val") || is_named(path, "test");
    (is_named(path, "train") ? train : is_test ? test : unnamed).add(path);
  }
  data.class_names = class_names(dir, {&train, &test, &unnamed});
  Shards chosen;
  if (train.paths.empty() && test.paths.empty()) {
    chosen = part_of(unnamed, split);
  } else {
    chosen = std::move(split == Split::kTrain ? train : test);
    require(!chosen.paths.empty(), "'{}' holds no shards {}", dir.string(),
            split == Split::kTrain ? "train*.tar" : "val*.tar or test*.tar");
  }
  data.count = static_cast<int64_t>(chosen.samples.size());
  for (const TarSample& sample : chosen.samples) data.labels.push_back(sample.label);
  data.encoded = std::make_shared<ShardImages>(std::move(chosen));
}

}  // namespace ringfort
