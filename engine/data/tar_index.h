// Which samples a WebDataset shard holds, and where: a pass over the headers of a tar file, by
// libarchive. Nothing is unpacked: names of members are keys and words for people, never paths.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace ringfort {

struct TarSample {
  std::string key;                // the member's path without its extensions
  int64_t offset = 0, bytes = 0;  // of the image in the tar file
  int32_t label = 0;
};

// The samples of an uncompressed tar file: pairs of members KEY.jpg (.jpeg, .png) and KEY.cls, a
// class number as text, which follow each other. Other extensions and hidden files are passed over.
// Errors, naming shard and member: not a tar file, truncated, a member too large or of a length or
// kind that no data set has, one of a pair missing, a key that comes twice, no sample at all.
std::vector<TarSample> index_tar(const std::filesystem::path& path);

}  // namespace ringfort
