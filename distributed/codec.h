// Codec: how a part of the flat gradient travels. It is cut into chunks, none of which spans two
// parameters; the encodings of the chunks lie one behind the other, so a run of chunks is a run of
// bytes, and how long it is follows from the numbers of elements alone.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/device_memory.h"
#include "kernels/quantize.h"
#include "kernels/select.h"

namespace ringfort {

// Consecutive elements of the flat gradient that belong together: a parameter, or a part of one.
struct Piece {
  int64_t first = 0, count = 0;
};

struct ChunkRange {
  int64_t first = 0, last = 0;  // numbers of chunks, last not included
};

struct EncodeCall {
  ChunkRange range;
  float* values = nullptr;    // the flat gradient
  std::byte* wire = nullptr;  // of the range
  // Encodings that came for the range, decoded and added to the values first; may be `wire`.
  const std::byte* received = nullptr;
  // Laid out as the values: where what the encoding leaves out is put. Null: nowhere.
  float* residual = nullptr;
  RandomKey key = {};
  uint64_t stream = 0;  // chunk c draws by (key, stream + c) ...
  uint64_t common = 0;  // ... and, what all ranks must draw alike, by (key, common + c)
};

struct DecodeCall {
  ChunkRange range;
  const std::byte* wire = nullptr;
  float* values = nullptr;
  bool add = false;  // to what is there; else it is replaced
  RandomKey key = {};
  uint64_t common = 0;
};

class Codec {
 public:
  virtual ~Codec() = default;
  Codec(const Codec&) = delete;
  Codec& operator=(const Codec&) = delete;

  int64_t chunks() const { return std::ssize(ends_); }
  int64_t elements() const { return elements_; }
  // Bytes of a range of chunks; of all of them where none is given.
  int64_t bytes(ChunkRange range) const { return end(range.last) - end(range.first); }
  int64_t bytes() const { return end(chunks()); }
  int64_t wire_begin(int64_t chunk) const { return end(chunk); }  // among the bytes of all
  // Parts of about equal bytes.
  std::vector<ChunkRange> cut(int parts) const;

  // What is done to a rank's own values before they are encoded for the first time.
  virtual void prepare(Exec& /*exec*/, float* /*values*/) {}
  virtual void encode(Exec& exec, const EncodeCall& call) = 0;
  virtual void decode(Exec& exec, const DecodeCall& call) = 0;

 protected:
  // ends: where the encoding of each chunk ends.
  Codec(std::vector<int64_t> ends, int64_t elements)
      : ends_(std::move(ends)), elements_(elements) {}

 private:
  int64_t end(int64_t chunk) const {
    return chunk == 0 ? 0 : ends_[static_cast<size_t>(chunk) - 1];
  }
  const std::vector<int64_t> ends_;
  const int64_t elements_;
};

// The pieces cut into chunks of at most `longest` elements, with the bytes that a quantizer makes
// of each.
std::vector<Chunk> cut_into_chunks(std::span<const Piece> pieces, int64_t longest,
                                   const Quantizer& quantizer);

// Every element by a quantizer.
std::unique_ptr<Codec> make_quantizer_codec(Device device, std::span<const Piece> pieces,
                                            const Quantizer& quantizer, int64_t longest);

// Of every chunk only so many elements as keep(count) says, between 0 and count; their values by a
// quantizer.
struct SparseOptions {
  SelectBy by = SelectBy::kMagnitude;  // kLot: which they are is no secret and does not travel
  double share = 0.01;                 // of a chunk's elements, at least one
  bool scale_up = false;               // kLot: values times count / kept, so that there is no bias
  Quantizer values = Quantizer::make(QuantizerKind::kFloat32);
};
int64_t kept_of(const SparseOptions& options, int64_t count);
std::unique_ptr<Codec> make_sparse_codec(Device device, std::span<const Piece> pieces,
                                         const SparseOptions& options, int64_t longest);

}  // namespace ringfort
