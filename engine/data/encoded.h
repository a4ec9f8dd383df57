// Images of a data set as their files hold them, JPEG or PNG, read one by one and by many threads
// at once. What is found out when the data set is opened is where the images are, not whether they
// are intact: that shows when they are decoded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ringfort {

inline constexpr uint64_t kMaxEncodedBytes = uint64_t{1} << 26;  // of one image
inline constexpr int64_t kMaxEncodedImages = int64_t{1} << 28;

class EncodedImages {
 public:
  virtual ~EncodedImages() = default;
  // For people: a path, or a shard and the name in it.
  virtual std::string name(int64_t i) const = 0;
  // The bytes of image `i`'s file. Errors, naming the image: it cannot be read or is too large.
  virtual std::vector<uint8_t> read(int64_t i) const = 0;
};

}  // namespace ringfort
