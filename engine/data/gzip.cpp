// gzip by zlib's inflate rather than by gzread: gzread takes plain files for compressed ones,
// ignores garbage behind the end and cannot be bounded.
#include <zlib.h>

#include <algorithm>
#include <memory>

#include "engine/data/formats.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr int kGzipOnly = 16 + MAX_WBITS;  // zlib's code for "a gzip header, nothing else"

struct EndInflate {
  void operator()(z_stream* stream) const { inflateEnd(stream); }
};

}  // namespace

std::vector<uint8_t> gunzip(std::span<const uint8_t> compressed, size_t max_bytes,
                            const std::string& file) {
  constexpr const char* kAdvice = "copy or download it again";
  require(compressed.size() <= UINT32_MAX, "'{}' is too large for a data file", file);
  z_stream stream{};
  require(inflateInit2(&stream, kGzipOnly) == Z_OK, "zlib has no memory to read '{}'", file);
  const std::unique_ptr<z_stream, EndInflate> end(&stream);
  stream.next_in = const_cast<Bytef*>(compressed.data());  // zlib reads it only
  stream.avail_in = static_cast<uInt>(compressed.size());

  std::vector<uint8_t> out;
  size_t filled = 0;
  int status = Z_OK;
  while (status == Z_OK) {
    if (filled == out.size()) {
      require(filled <= max_bytes, "'{}' unpacks to more than {} bytes; is it the right file?",
              file, max_bytes);
      out.resize(std::min(std::max(2 * filled, size_t{1} << 16), max_bytes + 1));
    }
    const auto room = static_cast<uInt>(std::min<size_t>(out.size() - filled, 1u << 30));
    stream.next_out = out.data() + filled;
    stream.avail_out = room;
    status = inflate(&stream, Z_NO_FLUSH);
    filled += room - stream.avail_out;
  }
  require(status != Z_BUF_ERROR, "'{}' is truncated: its gzip data ends early; {}", file, kAdvice);
  require(status == Z_STREAM_END, "'{}' is not intact gzip data ({}); {}", file,
          stream.msg != nullptr ? stream.msg : "unknown reason", kAdvice);
  require(filled <= max_bytes, "'{}' unpacks to more than {} bytes; is it the right file?", file,
          max_bytes);
  require(stream.avail_in == 0, "'{}' has {} bytes after the end of its gzip data; {}", file,
          stream.avail_in, kAdvice);
  out.resize(filled);
  return out;
}

}  // namespace ringfort
