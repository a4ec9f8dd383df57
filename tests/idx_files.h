// Files in MNIST's format (IDX of LeCun et al.): 28 x 28 grey images in ten classes.
#pragma once

#include <zlib.h>

#include "tests/temp_folder.h"

namespace ringfort::test {

constexpr size_t kMnistImage = 28 * 28;

inline Bytes idx_bytes(const std::vector<uint32_t>& dims, const Bytes& values) {
  Bytes bytes{0, 0, 8, static_cast<uint8_t>(dims.size())};
  for (const uint32_t dim : dims)
    for (int shift = 24; shift >= 0; shift -= 8)
      bytes.push_back(static_cast<uint8_t>(dim >> shift & 0xff));
  bytes.insert(bytes.end(), values.begin(), values.end());
  return bytes;
}

inline Bytes gzip(const Bytes& bytes) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  Bytes out(deflateBound(&stream, bytes.size()));
  stream.next_in = const_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// part: "train" or "t10k". A label per image.
inline void write_idx(const TempFolder& folder, const std::string& part, const Bytes& images,
                      const Bytes& labels) {
  const auto count = static_cast<uint32_t>(labels.size());
  spit(folder / (part + "-images-idx3-ubyte"), idx_bytes({count, 28, 28}, images));
  spit(folder / (part + "-labels-idx1-ubyte"), idx_bytes({count}, labels));
}

}  // namespace ringfort::test
