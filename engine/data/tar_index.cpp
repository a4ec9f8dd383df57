#include "engine/data/tar_index.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "engine/data/encoded.h"
#include "engine/data/formats.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr int64_t kMaxMembers = int64_t{1} << 24;
constexpr size_t kMaxPath = 1024;
constexpr int64_t kMaxLabelBytes = 32;
constexpr int64_t kBlock = 512;

struct CloseArchive {
  void operator()(archive* tar) const { archive_read_free(tar); }
};

// Not too long for a sentence.
std::string_view shown(std::string_view path) { return path.substr(0, 200); }

// "a/b.seg.png" -> "a/b", "seg.png": WebDataset's rule.
std::pair<std::string, std::string> key_and_extension(const std::string& path) {
  const size_t name = path.rfind('/') == path.npos ? 0 : path.rfind('/') + 1;
  const size_t dot = std::min(path.find('.', name), path.size());
  std::string extension = path.substr(std::min(dot + 1, path.size()));
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return {path.substr(0, dot), extension};
}

class TarIndex {
 public:
  explicit TarIndex(const std::filesystem::path& path)
      : shard_(path.string()), tar_(archive_read_new()) {
    require(tar_ != nullptr, "libarchive has no memory to read '{}'", shard_);
    std::error_code error;
    shard_bytes_ = static_cast<int64_t>(std::filesystem::file_size(path, error));
    require(!error, "'{}' cannot be read: {}", shard_, error.message());
    archive_read_support_format_tar(tar_.get());
    archive_read_support_filter_none(tar_.get());
    if (archive_read_open_filename(tar_.get(), shard_.c_str(), 1 << 16) != ARCHIVE_OK) give_up();
  }

  std::vector<TarSample> run() {
    archive_entry* entry = nullptr;
    for (int64_t members = 0;; ++members) {
      require(members <= kMaxMembers, "'{}' has more than {} members; make more and smaller shards",
              shard_, kMaxMembers);
      const int status = archive_read_next_header(tar_.get(), &entry);
      if (status != ARCHIVE_OK && status != ARCHIVE_WARN && status != ARCHIVE_EOF) give_up();
      settle_offset(archive_read_header_position(tar_.get()));
      if (status == ARCHIVE_EOF) break;
      take(entry);
    }
    finish_sample();
    require(!samples_.empty(),
            "'{}' holds no sample; a shard has pairs of members NAME.jpg or NAME.png and NAME.cls",
            shard_);
    return std::move(samples_);
  }

 private:
  [[noreturn]] void give_up() {
    const char* why = archive_error_string(tar_.get());
    fail("'{}' is not an intact, uncompressed tar file ({}); unpack or copy it again", shard_,
         shown(why != nullptr ? why : "unknown reason"));
  }

  void take(archive_entry* entry) {
    const char* name = archive_entry_pathname(entry);
    if (name == nullptr) name = archive_entry_pathname_utf8(entry);
    require(name != nullptr, "'{}' has a member whose name cannot be read; make it again", shard_);
    const std::string path(name);
    require(path.size() <= kMaxPath, "'{}' has a member whose name has {} letters: '{}'...", shard_,
            path.size(), shown(path));
    if (archive_entry_filetype(entry) == AE_IFDIR) return;
    const std::string_view file = std::string_view(path).substr(path.rfind('/') + 1);
    if (file.starts_with('.')) return;
    const auto [key, extension] = key_and_extension(path);
    const bool image = extension.find('.') == extension.npos && is_image_name("." + extension);
    const bool label = extension == "cls";
    if (!image && !label) return;
    require(archive_entry_filetype(entry) == AE_IFREG && archive_entry_hardlink(entry) == nullptr &&
                archive_entry_sparse_count(entry) == 0 && archive_entry_size_is_set(entry),
            "'{}': member '{}' is not a plain file; make the shard again", shard_, shown(path));
    if (key != current_.key) {
      finish_sample();
      require(keys_.insert(key).second, "'{}': sample '{}' comes twice; make the shard again",
              shard_, shown(key));
      current_.key = key;
    }
    const int64_t bytes = archive_entry_size(entry);
    if (image)
      take_image(path, bytes);
    else
      take_label(path, bytes);
  }

  void take_image(const std::string& path, int64_t bytes) {
    require(!has_image_, "'{}': sample '{}' has two images; make the shard again", shard_,
            shown(current_.key));
    require(bytes >= 0 && bytes <= static_cast<int64_t>(kMaxEncodedBytes),
            "'{}': member '{}' has {} bytes; an image has at most {}", shard_, shown(path), bytes,
            kMaxEncodedBytes);
    has_image_ = offset_is_open_ = true;
    current_.bytes = bytes;
  }

  // libarchive tells where a header starts, not where data does: that follows from the next header.
  void settle_offset(int64_t next_header) {
    if (!offset_is_open_) return;
    offset_is_open_ = false;
    current_.offset = next_header - (current_.bytes + kBlock - 1) / kBlock * kBlock;
    require(current_.offset >= kBlock && current_.bytes <= shard_bytes_ - current_.offset,
            "'{}' is truncated in sample '{}'; copy it again", shard_, shown(current_.key));
  }

  void take_label(const std::string& path, int64_t bytes) {
    require(!label_, "'{}': sample '{}' has two labels; make the shard again", shard_,
            shown(current_.key));
    require(bytes <= kMaxLabelBytes,
            "'{}': member '{}' has {} bytes; a class number has at most {}", shard_, shown(path),
            bytes, kMaxLabelBytes);
    std::array<char, kMaxLabelBytes> buffer;
    const auto got = archive_read_data(tar_.get(), buffer.data(), buffer.size());
    if (got < 0) give_up();
    std::string_view text(buffer.data(), static_cast<size_t>(got));
    const auto space = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
    while (!text.empty() && space(text.front())) text.remove_prefix(1);
    while (!text.empty() && space(text.back())) text.remove_suffix(1);
    int64_t label = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), label);
    require(error == std::errc() && end == text.data() + text.size() && label >= 0 &&
                label < static_cast<int64_t>(kMaxClasses),
            "'{}': member '{}' says '{}'; it must be a class number from 0 to {}", shard_,
            shown(path), shown(text), kMaxClasses - 1);
    label_ = static_cast<int32_t>(label);
  }

  void finish_sample() {
    if (current_.key.empty() && !has_image_ && !label_) return;
    require(has_image_ && label_, "'{}': sample '{}' has no {}; make the shard again", shard_,
            shown(current_.key), has_image_ ? "label (.cls)" : "image (.jpg, .jpeg, .png)");
    current_.label = *label_;
    samples_.push_back(std::move(current_));
    current_ = {};
    has_image_ = false;
    label_.reset();
  }

  std::string shard_;
  std::unique_ptr<archive, CloseArchive> tar_;
  int64_t shard_bytes_ = 0;
  std::vector<TarSample> samples_;
  std::unordered_set<std::string> keys_;
  TarSample current_;
  bool has_image_ = false, offset_is_open_ = false;
  std::optional<int32_t> label_;
};

}  // namespace

std::vector<TarSample> index_tar(const std::filesystem::path& path) { return TarIndex(path).run(); }

}  // namespace ringfort
