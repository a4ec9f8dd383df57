#include "distributed/exchange.h"

#include <algorithm>
#include <chrono>

#include "distributed/ring.h"
#include "engine/transfer.h"

namespace ringfort {
namespace {

constexpr int64_t kPartBytes = 256 << 10;
constexpr int kMostParts = 16;

// Adds the time until its end to `seconds`.
class Timed {
 public:
  explicit Timed(double& seconds) : seconds_(seconds) {}
  ~Timed() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  const Clock::time_point start_ = Clock::now();
};

}  // namespace

const char* to_string(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kRing:
      return "ring";
    case Algorithm::kSra:
      return "sra";
    case Algorithm::kGather:
      return "gather";
  }
  return "?";
}

Exchange::Exchange(Exec& exec, Comm& comm, int parts)
    : exec_(exec),
      comm_(comm),
      parts_(parts),
      staged_(exec.on_cuda() && !comm.transport().on_device()),
      pool_(exec.device()) {}

void Exchange::all_reduce(Codec& codec, const ExchangeCall& call) {
  comm_.begin(call.what);
  reserve(wire_, codec.bytes());
  codec.prepare(exec_, call.values);
  switch (call.algorithm) {
    case Algorithm::kRing:
      return ring(codec, call);
    case Algorithm::kSra:
      return sra(codec, call);
    case Algorithm::kGather:
      return gather(codec, call);
  }
}

void Exchange::broadcast(Codec& codec, float* values, const std::string& what) {
  comm_.begin(what);
  reserve(wire_, codec.bytes());
  const ChunkRange all{0, codec.chunks()};
  const ExchangeCall call{.values = values};
  std::vector<Comm::Message> messages;
  if (comm_.rank() == 0) {
    encode(codec, call, all, Before::kNothing);
    for (int to = 1; to < comm_.size(); ++to) messages.push_back(send(codec, to, all));
    for (Comm::Message& message : messages) finish(message);
  } else {
    Comm::Message message = receive(codec, 0, all);
    finish(message, wire_, 0, codec.bytes());
  }
  decode(codec, call, all, wire_, 0, false);  // rank 0 too: it has what the others have
}

// --- bytes ---

void Exchange::reserve(Buffer& buffer, int64_t bytes) {
  if (!buffer.device || buffer.device.view().bytes() < bytes) {
    buffer.device = {};
    buffer.device = Tensor(pool_, vector_shape(std::max<int64_t>(bytes, 1)), Dtype::kUint8);
  }
  if (staged_ && std::ssize(buffer.host) < bytes) buffer.host.resize(static_cast<size_t>(bytes));
}

std::byte* Exchange::on_device(const Buffer& buffer, int64_t at) const {
  return buffer.device.as<std::byte>() + at;
}

std::span<std::byte> Exchange::message(Buffer& buffer, int64_t at, int64_t bytes) {
  std::byte* const begin = staged_ ? buffer.host.data() + at : on_device(buffer, at);
  return {begin, static_cast<size_t>(bytes)};
}

Comm::Message Exchange::send(Codec& codec, int to, ChunkRange range) {
  const int64_t at = codec.wire_begin(range.first), bytes = codec.bytes(range);
  if (bytes == 0) return {};  // of which the receiver knows, too
  const std::span<std::byte> out = message(wire_, at, bytes);
  if (staged_)
    to_host(exec_, out.data(), {on_device(wire_, at), Dtype::kUint8, vector_shape(bytes)});
  return comm_.send(to, out);
}

Comm::Message Exchange::receive(Codec& codec, int from, ChunkRange range) {
  const int64_t bytes = codec.bytes(range);
  if (bytes == 0) return {};
  return comm_.receive(from, message(wire_, codec.wire_begin(range.first), bytes));
}

void Exchange::finish(Comm::Message& message) {
  const Timed timed(times_.wait);
  comm_.finish(message);
}

void Exchange::finish(Comm::Message& message, Buffer& buffer, int64_t at, int64_t bytes) {
  finish(message);
  if (!staged_ || bytes == 0) return;
  to_device(exec_, {on_device(buffer, at), Dtype::kUint8, vector_shape(bytes)},
            buffer.host.data() + at);
  synchronize(exec_);
}

// --- encodings ---

void Exchange::encode(Codec& codec, const ExchangeCall& call, ChunkRange range, Before before) {
  if (range.first == range.last) return;
  const Timed timed(times_.encode);
  std::byte* const wire = on_device(wire_, codec.wire_begin(range.first));
  EncodeCall encoding{range, call.values, wire};
  if (before == Before::kAddReceived) encoding.received = wire;
  encoding.residual = call.residual;
  encoding.key = call.key;
  // Each rank encodes a chunk at most once per call, and with numbers of its own.
  encoding.common = static_cast<uint64_t>(call.first_chunk);
  encoding.stream = encoding.common + (static_cast<uint64_t>(comm_.rank() + 1) << 40);
  codec.encode(exec_, encoding);
  synchronize(exec_);  // the bytes are sent next
}

void Exchange::decode(Codec& codec, const ExchangeCall& call, ChunkRange range,
                      const Buffer& buffer, int64_t at, bool add) {
  if (range.first == range.last) return;
  const Timed timed(times_.decode);
  codec.decode(exec_, {range, on_device(buffer, at), call.values, add, call.key,
                       static_cast<uint64_t>(call.first_chunk)});
}

std::vector<ChunkRange> Exchange::parts_of(const Codec& codec, ChunkRange segment) const {
  const int64_t bytes = codec.bytes(segment);
  const auto wanted =
      parts_ > 0 ? parts_
                 : static_cast<int>(std::clamp<int64_t>(bytes / kPartBytes, 1, kMostParts));
  std::vector<int64_t> ends;
  for (int64_t chunk = segment.first; chunk < segment.last; ++chunk)
    ends.push_back(codec.bytes({segment.first, chunk + 1}));
  const std::vector<int64_t> cuts = balanced_cuts(ends, wanted);
  std::vector<ChunkRange> parts;
  for (size_t i = 0; i + 1 < cuts.size(); ++i)
    if (cuts[i] < cuts[i + 1])
      parts.push_back({segment.first + cuts[i], segment.first + cuts[i + 1]});
  return parts;
}

// --- the algorithms ---

// Every segment has its place in wire_; a segment that comes is encoded anew where it lies and sent
// on from there, part by part: while one part is on its way the next is worked on.
void Exchange::ring(Codec& codec, const ExchangeCall& call) {
  const RingPlan plan = ring_plan(comm_.rank(), comm_.size());
  const std::vector<ChunkRange> segments = codec.cut(comm_.size());
  std::vector<std::vector<ChunkRange>> parts;
  parts.reserve(segments.size());
  for (const ChunkRange& segment : segments) parts.push_back(parts_of(codec, segment));
  const auto of = [&](int segment) -> const auto& { return parts[static_cast<size_t>(segment)]; };
  std::vector<std::vector<Comm::Message>> sent(parts.size());
  const auto send_part = [&](int segment, ChunkRange part) {
    sent[static_cast<size_t>(segment)].push_back(send(codec, plan.to, part));
  };
  const auto receive_parts = [&](int segment) {
    // What was sent from here must have gone before it is written over.
    for (Comm::Message& message : sent[static_cast<size_t>(segment)]) finish(message);
    sent[static_cast<size_t>(segment)].clear();
    std::vector<Comm::Message> messages;
    for (const ChunkRange& part : of(segment)) messages.push_back(receive(codec, plan.from, part));
    return messages;
  };
  const auto take = [&](Comm::Message& message, ChunkRange part) {
    finish(message, wire_, codec.wire_begin(part.first), codec.bytes(part));
  };

  const int own = comm_.rank();
  std::vector<Comm::Message> coming;
  if (!plan.reduce_scatter.empty()) coming = receive_parts(plan.reduce_scatter[0].receive);
  for (const ChunkRange& part : of(own)) {
    encode(codec, call, part, Before::kNothing);
    send_part(own, part);
  }
  for (size_t step = 0; step < plan.reduce_scatter.size(); ++step) {
    const int segment = plan.reduce_scatter[step].receive;
    const bool last = step + 1 == plan.reduce_scatter.size();
    std::vector<Comm::Message> arriving;
    std::swap(arriving, coming);
    if (!last) coming = receive_parts(plan.reduce_scatter[step + 1].receive);
    for (size_t i = 0; i < arriving.size(); ++i) {
      const ChunkRange part = of(segment)[i];
      take(arriving[i], part);
      encode(codec, call, part, Before::kAddReceived);
      send_part(segment, part);  // to the next hop; a complete sum, to all who need it
      // Its owner must not keep a better sum than the others get.
      if (last) decode(codec, call, part, wire_, codec.wire_begin(part.first), false);
    }
  }
  for (size_t step = 0; step < plan.all_gather.size(); ++step) {
    const int segment = plan.all_gather[step].receive;
    const bool last = step + 1 == plan.all_gather.size();
    std::vector<Comm::Message> arriving = receive_parts(segment);
    for (size_t i = 0; i < arriving.size(); ++i) {
      const ChunkRange part = of(segment)[i];
      take(arriving[i], part);
      if (!last) send_part(segment, part);
      decode(codec, call, part, wire_, codec.wire_begin(part.first), false);
    }
  }
  for (std::vector<Comm::Message>& messages : sent)
    for (Comm::Message& message : messages) finish(message);
}

void Exchange::sra(Codec& codec, const ExchangeCall& call) {
  const int ranks = comm_.size(), own = comm_.rank();
  const std::vector<ChunkRange> segments = codec.cut(ranks);
  const ChunkRange mine = segments[static_cast<size_t>(own)];
  const int64_t bytes = codec.bytes(mine);
  reserve(gathered_, bytes * ranks);
  std::vector<Comm::Message> shares(static_cast<size_t>(ranks)), sent(static_cast<size_t>(ranks));
  for (int from = 0; from < ranks; ++from)
    if (from != own && bytes > 0)
      shares[static_cast<size_t>(from)] =
          comm_.receive(from, message(gathered_, from * bytes, bytes));
  for (int step = 1; step < ranks; ++step) {
    const int to = (own + step) % ranks;
    encode(codec, call, segments[static_cast<size_t>(to)], Before::kNothing);
    sent[static_cast<size_t>(to)] = send(codec, to, segments[static_cast<size_t>(to)]);
  }
  for (int from = 0; from < ranks; ++from) {  // in the order of ranks: the same sum in every run
    if (from == own) continue;
    finish(shares[static_cast<size_t>(from)], gathered_, from * bytes, bytes);
    decode(codec, call, mine, gathered_, from * bytes, true);
  }
  encode(codec, call, mine, Before::kNothing);
  std::vector<Comm::Message> sums(static_cast<size_t>(ranks)), copies;
  for (int from = 0; from < ranks; ++from) {
    if (from == own) continue;
    finish(sent[static_cast<size_t>(from)]);  // it lies where the sum will
    sums[static_cast<size_t>(from)] = receive(codec, from, segments[static_cast<size_t>(from)]);
  }
  for (int step = 1; step < ranks; ++step)
    copies.push_back(send(codec, (own + step) % ranks, mine));
  decode(codec, call, mine, wire_, codec.wire_begin(mine.first), false);
  for (int from = 0; from < ranks; ++from) {
    if (from == own) continue;
    const ChunkRange segment = segments[static_cast<size_t>(from)];
    const int64_t at = codec.wire_begin(segment.first);
    finish(sums[static_cast<size_t>(from)], wire_, at, codec.bytes(segment));
    decode(codec, call, segment, wire_, at, false);
  }
  for (Comm::Message& message : copies) finish(message);
}

void Exchange::gather(Codec& codec, const ExchangeCall& call) {
  const int ranks = comm_.size(), own = comm_.rank();
  const ChunkRange all{0, codec.chunks()};
  const int64_t bytes = codec.bytes();
  reserve(gathered_, bytes * ranks);
  std::vector<Comm::Message> coming(static_cast<size_t>(ranks)), sent;
  for (int from = 0; from < ranks; ++from)
    if (from != own && bytes > 0)
      coming[static_cast<size_t>(from)] =
          comm_.receive(from, message(gathered_, from * bytes, bytes));
  encode(codec, call, all, Before::kNothing);
  for (int step = 1; step < ranks; ++step) sent.push_back(send(codec, (own + step) % ranks, all));
  for (int from = 0; from < ranks; ++from) {
    if (from != own) finish(coming[static_cast<size_t>(from)], gathered_, from * bytes, bytes);
    decode(codec, call, all, from == own ? wire_ : gathered_, from == own ? 0 : from * bytes,
           from > 0);
  }
  for (Comm::Message& message : sent) finish(message);
  if (!call.vote) return;  // in a scatter-reduce the owners have voted
  const auto common = static_cast<uint64_t>(call.first_chunk);
  codec.encode(exec_,
               {all, call.values, on_device(wire_, 0), nullptr, nullptr, call.key, common, common});
  decode(codec, call, all, wire_, 0, false);
}

}  // namespace ringfort
