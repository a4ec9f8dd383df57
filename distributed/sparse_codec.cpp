// Sparse encodings: of each chunk the indices of what is kept, 16 bits each, then the values there
// in the encoding of a quantizer, which sees them as one chunk.
#include <algorithm>
#include <cmath>

#include "distributed/codec.h"
#include "engine/tensor.h"

namespace ringfort {
namespace {

int64_t index_bytes(const SparseOptions& options, int64_t kept) {
  return options.by == SelectBy::kMagnitude ? 2 * kept : 0;
}

struct Layout {
  std::vector<Selection> selections;
  std::vector<Chunk> kept;  // in the compact buffer
  std::vector<int64_t> ends;
  int64_t elements = 0, kept_elements = 0, longest = 1;
};

Layout layout(std::span<const Piece> pieces, const SparseOptions& options, int64_t longest) {
  require(longest >= 1 && longest <= Selection::kLongest,
          "sparse gradients: chunks have 1 to {} elements, not {}", Selection::kLongest, longest);
  require(options.share > 0 && options.share <= 1,
          "sparse gradients: the share that is kept is {}; it must be above 0 and at most 1",
          options.share);
  Layout all;
  int64_t wire = 0;
  for (const Piece& piece : pieces)
    for (int64_t done = 0; done < piece.count; done += longest) {
      const int64_t count = std::min(longest, piece.count - done);
      const int64_t kept = kept_of(options, count);
      all.selections.push_back(
          {piece.first + done, count, all.kept_elements, kept, all.elements, wire});
      wire += index_bytes(options, kept);
      all.kept.push_back({all.kept_elements, kept, wire});
      wire += options.values.bytes(kept);
      all.ends.push_back(wire);
      all.elements += count;
      all.kept_elements += kept;
      all.longest = std::max(all.longest, count);
    }
  return all;
}

class SparseCodec : public Codec {
 public:
  SparseCodec(Device device, const Layout& all, const SparseOptions& options)
      : Codec(all.ends, all.elements),
        options_(options),
        longest_(all.longest),
        pool_(device),
        selections_(on_device(device, all.selections)),
        kept_(on_device(device, all.kept)),
        compact_(pool_, vector_shape(all.kept_elements), Dtype::kFloat32),
        left_(pool_, vector_shape(all.kept_elements), Dtype::kFloat32),
        indices_(pool_, vector_shape(all.kept_elements), Dtype::kInt32) {
    if (options.by == SelectBy::kLot)
      keys_ = Tensor(pool_, vector_shape(all.elements), Dtype::kFloat32);
  }

  void prepare(Exec& exec, float* values) override {
    if (options_.scale_up) scale_by_share(exec, selections(0), chunks(), longest_, values);
  }

  void encode(Exec& exec, const EncodeCall& call) override {
    if (call.received != nullptr)
      decode(exec, {call.range, call.received, call.values, true, call.key, call.common});
    choose(exec, call.range, call.values, call.key, call.common);
    if (options_.by == SelectBy::kMagnitude)
      store_indices(exec, selections(call.range.first), length(call.range), longest_,
                    indices_.as<int32_t>(), call.wire, wire_begin(call.range.first));
    EncodeJob job;
    job.chunks = kept(call.range.first);
    job.count = length(call.range);
    job.longest = longest_;
    job.origin = wire_begin(call.range.first);
    job.values = compact_.as<float>();
    job.wire = call.wire;
    job.residual = left_.as<float>();
    job.key = call.key;
    job.first_stream = call.stream + static_cast<uint64_t>(call.range.first);
    ringfort::encode(exec, options_.values, job);
    if (call.residual != nullptr)
      keep_residual(exec, selections(call.range.first), length(call.range), longest_,
                    indices_.as<int32_t>(), left_.as<float>(), call.values, call.residual);
  }

  void decode(Exec& exec, const DecodeCall& call) override {
    const int64_t origin = wire_begin(call.range.first);
    const Selection* const first = selections(call.range.first);
    if (options_.by == SelectBy::kMagnitude)
      load_indices(exec, first, length(call.range), longest_, indices_.as<int32_t>(), call.wire,
                   origin);
    else
      choose(exec, call.range, call.values, call.key, call.common);
    DecodeJob job;
    job.chunks = kept(call.range.first);
    job.count = length(call.range);
    job.longest = longest_;
    job.origin = origin;
    job.wire = call.wire;
    job.values = compact_.as<float>();
    ringfort::decode(exec, options_.values, job);
    scatter(exec, first, length(call.range), longest_, indices_.as<int32_t>(), compact_.as<float>(),
            call.values, call.add);
  }

 private:
  template <class T>
  static DeviceMemory on_device(Device device, const std::vector<T>& table) {
    const auto bytes = static_cast<int64_t>(table.size() * sizeof(T));
    DeviceMemory memory = allocate_on(device, bytes, "a table of chunks");
    write_now(device, {memory.get(), Dtype::kUint8, vector_shape(bytes)}, table.data());
    return memory;
  }
  static int64_t length(ChunkRange range) { return range.last - range.first; }
  const Selection* selections(int64_t chunk) const {
    return static_cast<const Selection*>(selections_.get()) + chunk;
  }
  const Chunk* kept(int64_t chunk) const { return static_cast<const Chunk*>(kept_.get()) + chunk; }

  void choose(Exec& exec, ChunkRange range, const float* values, const RandomKey& key,
              uint64_t common) {
    SelectJob job;
    job.chunks = selections(range.first);
    job.count = length(range);
    job.longest = longest_;
    job.values = values;
    job.by = options_.by;
    job.key = key;
    job.stream = common + static_cast<uint64_t>(range.first);
    job.keys = keys_ ? keys_.as<float>() : nullptr;
    job.indices = indices_.as<int32_t>();
    job.compact = compact_.as<float>();
    select(exec, job);
  }

  const SparseOptions options_;
  const int64_t longest_;
  Pool pool_;
  DeviceMemory selections_, kept_;
  Tensor compact_, left_, indices_, keys_;
};

}  // namespace

int64_t kept_of(const SparseOptions& options, int64_t count) {
  const auto wanted =
      static_cast<int64_t>(std::llround(options.share * static_cast<double>(count)));
  return std::clamp<int64_t>(wanted, 1, count);
}

std::unique_ptr<Codec> make_sparse_codec(Device device, std::span<const Piece> pieces,
                                         const SparseOptions& options, int64_t longest) {
  return std::make_unique<SparseCodec>(device, layout(pieces, options, longest), options);
}

}  // namespace ringfort
