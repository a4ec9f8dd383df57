// Comm: the ranks of a job, as everything above sees them. Every message of a collective is
// preceded by its fingerprint, so ranks that are not at the same place find out, by name, instead
// of adding up what does not belong together. A rank that is dead or stuck ends the wait of all
// others within the deadline, and each says which it was and where.
//
// One thread at a time. All ranks make the same calls in the same order.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "distributed/transport.h"

namespace ringfort {

// What a message is part of.
struct Fingerprint {
  static constexpr size_t kMaxText = 104;
  int64_t sequence = 0;                   // of the collectives of this job, from 1
  int64_t bytes = 0;                      // of the message
  std::array<char, kMaxText + 1> what{};  // operation, bucket, length, dtype, compressor
  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};
std::string describe(const Fingerprint& fingerprint);

struct CommOptions {
  double deadline = 600;  // seconds that a rank waits for another one
  double grace = 3;       // seconds that others then have to say where they are
};

// What has gone over the wire, of this rank.
struct Traffic {
  int64_t collectives = 0;
  int64_t bytes_sent = 0;  // of payloads; headers are not counted
};

class Comm {
 public:
  explicit Comm(std::unique_ptr<Transport> transport, CommOptions options = {});
  // Some ranks of `all`, by their numbers there, this one among them; here they count from 0 in
  // that order. Its collectives count for themselves, on all members alike; messages go the same
  // way, so the thread is the same. all outlives it.
  Comm(Comm& all, std::vector<int> members);
  ~Comm();
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(members_.size()); }
  Transport& transport() { return *transport_; }
  double deadline() const { return options_.deadline; }
  const Traffic& traffic() const { return traffic_; }

  // --- what collectives are made of ---

  // Opens the next collective. what: all that ranks must agree on, in words; at most kMaxText bytes
  // of it count.
  void begin(std::string_view what);
  // A message of the open collective, which is on its way until finish() returns. bytes: in the
  // transport's memory, not moved until then.
  class Message {
    friend class Comm;
    int peer_ = 0;
    std::optional<Fingerprint> expected_;  // of what is received
    std::unique_ptr<Fingerprint> header_;  // where it is while transfers go on
    std::unique_ptr<Transfer> header_transfer_, payload_transfer_;
  };
  Message send(int to, std::span<const std::byte> bytes);
  Message receive(int from, std::span<std::byte> bytes);
  // Errors: CommError where a rank is at another collective, or has said nothing for the deadline,
  // or another rank has given up.
  void finish(Message& message);

  // --- collectives over host memory, in the order of ranks and so bit-identical everywhere ---

  // values <- their sums over the ranks. For short vectors: everybody sends to everybody.
  void sum(std::span<double> values, std::string_view what);
  // all: size() times as long as mine.
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all, std::string_view what);
  // What each rank has, of whatever length.
  std::vector<std::vector<std::byte>> all_gather_any(std::span<const std::byte> mine,
                                                     std::string_view what);
  // to[r] goes to rank r and from[r] comes from it; their own parts are theirs to move.
  void all_to_all(std::span<const std::span<const std::byte>> to,
                  std::span<const std::span<std::byte>> from, std::string_view what);
  void broadcast(std::span<std::byte> bytes, int root, std::string_view what);
  void barrier(std::string_view what);

  // Tells all others that this rank gives up, and why; they throw it as CommError.
  void give_up(std::string_view sentence) noexcept;

 private:
  struct Notice;
  struct Peer;
  using Clock = std::chrono::steady_clock;
  void await_notice(int from);
  void look_for_notices();
  void tell(int to, const Notice& notice);
  Notice whereabouts(int64_t kind) const;
  void await(Transfer& transfer, int peer);
  [[noreturn]] void accuse(double waited);
  [[noreturn]] void stop(const std::string& sentence);

  // The Comm of all ranks, which alone waits and listens.
  Comm& root() { return all_ != nullptr ? *all_ : *this; }
  int in_all(int rank) const { return members_[static_cast<size_t>(rank)]; }

  std::unique_ptr<Transport> owned_;  // of the Comm of all ranks
  Transport* transport_;
  Comm* all_ = nullptr;
  std::vector<int> members_;  // their ranks in the transport
  int rank_ = 0;
  const CommOptions options_;
  Fingerprint current_;
  Fingerprint place_;  // of all Comms' collectives the one that this rank is at
  Traffic traffic_;
  int waits_for_ = -1;       // a rank
  std::vector<Peer> peers_;  // by rank
};

}  // namespace ringfort
