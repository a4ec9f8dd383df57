// Exchange: sums a part of the flat gradient over all ranks, in the encoding of a codec, by one of
// three algorithms. Whichever it is, every rank ends with the same bits: sums are decoded from the
// same bytes everywhere, by the rank that has formed them too.
//
//   ring    reduce-scatter and all-gather around the ring; a sum is decoded, added to and encoded
//           anew at every hop, so the error grows with the ranks (about omega (n + 1) / 2)
//   sra     scatter-reduce-all-gather: each rank gets all shares of its segment at once, sums and
//           encodes the sum: two encodings whatever the number of ranks
//   gather  everybody gets everybody's encoding and adds them up: one encoding, traffic of n
//
// n ranks, S bytes encoded: ring and sra send 2 (n - 1) / n S per rank, gather (n - 1) S.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "distributed/codec.h"
#include "distributed/comm.h"
#include "engine/tensor.h"

namespace ringfort {

enum class Algorithm { kRing, kSra, kGather };
const char* to_string(Algorithm algorithm);

struct ExchangeCall {
  Algorithm algorithm = Algorithm::kRing;
  float* values = nullptr;    // the flat gradient: summed in place, where the codec has chunks
  float* residual = nullptr;  // EncodeCall::residual: each element is written once per call
  RandomKey key = {};         // other for every call
  bool vote = false;          // the sum is encoded once more, on every rank alike (majority vote)
  int64_t first_chunk = 0;    // number of the codec's first chunk, among those of all codecs
  // What is summed, in words: ranks must agree on it.
  std::string what = "gradients";
};

// What exchanges have taken so far, on this rank.
struct ExchangeTimes {
  double encode = 0, decode = 0;  // seconds; encode: with the decode-add before it
  double wait = 0;                // for messages
};

class Exchange {
 public:
  // parts: messages into which a segment is cut, so that encoding one overlaps the transfer of
  // another; 0: as many as make parts of about 256 KiB, at most 16.
  Exchange(Exec& exec, Comm& comm, int parts = 0);

  void all_reduce(Codec& codec, const ExchangeCall& call);
  // The values of rank 0 on all ranks, in the codec's encoding.
  void broadcast(Codec& codec, float* values, const std::string& what);

  const ExchangeTimes& times() const { return times_; }
  Comm& comm() { return comm_; }

 private:
  // Bytes of encodings: on the device and, where the transport cannot read those, on the host too.
  struct Buffer {
    Tensor device;
    std::vector<std::byte> host;
  };
  void reserve(Buffer& buffer, int64_t bytes);
  std::byte* on_device(const Buffer& buffer, int64_t at) const;
  std::span<std::byte> message(Buffer& buffer, int64_t at, int64_t bytes);

  void ring(Codec& codec, const ExchangeCall& call);
  void sra(Codec& codec, const ExchangeCall& call);
  void gather(Codec& codec, const ExchangeCall& call);
  std::vector<ChunkRange> parts_of(const Codec& codec, ChunkRange segment) const;

  // In the buffer wire_, where the range has its place; the messages of it.
  enum class Before { kNothing, kAddReceived };
  Comm::Message send(Codec& codec, int to, ChunkRange range);
  Comm::Message receive(Codec& codec, int from, ChunkRange range);
  void encode(Codec& codec, const ExchangeCall& call, ChunkRange range, Before before);
  void decode(Codec& codec, const ExchangeCall& call, ChunkRange range, const Buffer& buffer,
              int64_t at, bool add);
  // Waits, and brings what came to the device.
  void finish(Comm::Message& message);
  void finish(Comm::Message& message, Buffer& buffer, int64_t at, int64_t bytes);

  Exec& exec_;
  Comm& comm_;
  const int parts_;
  const bool staged_;  // messages lie on the host, encodings do not
  Pool pool_;
  Buffer wire_, gathered_;
  ExchangeTimes times_;
};

}  // namespace ringfort
