#include "distributed/codec.h"

#include <algorithm>

#include "distributed/ring.h"

namespace ringfort {
namespace {

std::vector<int64_t> ends_of(const std::vector<Chunk>& chunks, const Quantizer& quantizer) {
  std::vector<int64_t> ends;
  for (const Chunk& chunk : chunks) ends.push_back(chunk.wire + quantizer.bytes(chunk.count));
  return ends;
}

int64_t elements_of(const std::vector<Chunk>& chunks) {
  int64_t elements = 0;
  for (const Chunk& chunk : chunks) elements += chunk.count;
  return elements;
}

class QuantizerCodec : public Codec {
 public:
  QuantizerCodec(Device device, const std::vector<Chunk>& chunks, const Quantizer& quantizer)
      : Codec(ends_of(chunks, quantizer), elements_of(chunks)), quantizer_(quantizer) {
    const auto bytes = static_cast<int64_t>(chunks.size() * sizeof(Chunk));
    table_ = allocate_on(device, bytes, "a table of chunks");
    write_now(device, {table_.get(), Dtype::kUint8, vector_shape(bytes)}, chunks.data());
    for (const Chunk& chunk : chunks) longest_ = std::max(longest_, chunk.count);
  }

  void encode(Exec& exec, const EncodeCall& call) override {
    EncodeJob job;
    job.chunks = table() + call.range.first;
    job.count = call.range.last - call.range.first;
    job.longest = longest_;
    job.origin = wire_begin(call.range.first);
    job.values = call.values;
    job.received = call.received;
    job.wire = call.wire;
    job.residual = call.residual;
    job.key = call.key;
    job.first_stream = call.stream + static_cast<uint64_t>(call.range.first);
    ringfort::encode(exec, quantizer_, job);
  }

  void decode(Exec& exec, const DecodeCall& call) override {
    DecodeJob job;
    job.chunks = table() + call.range.first;
    job.count = call.range.last - call.range.first;
    job.longest = longest_;
    job.origin = wire_begin(call.range.first);
    job.wire = call.wire;
    job.values = call.values;
    job.add = call.add;
    ringfort::decode(exec, quantizer_, job);
  }

 private:
  const Chunk* table() const { return static_cast<const Chunk*>(table_.get()); }

  const Quantizer quantizer_;
  DeviceMemory table_;
  int64_t longest_ = 1;
};

}  // namespace

std::vector<ChunkRange> Codec::cut(int parts) const {
  const std::vector<int64_t> cuts = balanced_cuts(ends_, parts);
  std::vector<ChunkRange> ranges;
  for (size_t part = 0; part + 1 < cuts.size(); ++part)
    ranges.push_back({cuts[part], cuts[part + 1]});
  return ranges;
}

std::vector<Chunk> cut_into_chunks(std::span<const Piece> pieces, int64_t longest,
                                   const Quantizer& quantizer) {
  require(longest >= 1, "chunks have at least one element, not {}", longest);
  std::vector<Chunk> chunks;
  int64_t wire = 0;
  for (const Piece& piece : pieces)
    for (int64_t done = 0; done < piece.count; done += longest) {
      const int64_t count = std::min(longest, piece.count - done);
      chunks.push_back({piece.first + done, count, wire});
      wire += quantizer.bytes(count);
    }
  return chunks;
}

std::unique_ptr<Codec> make_quantizer_codec(Device device, std::span<const Piece> pieces,
                                            const Quantizer& quantizer, int64_t longest) {
  return std::make_unique<QuantizerCodec>(device, cut_into_chunks(pieces, longest, quantizer),
                                          quantizer);
}

}  // namespace ringfort
