#include "distributed/comm.h"

#include <algorithm>
#include <numeric>

namespace ringfort {
namespace {

// Between two looks at what others have to say, each of which costs a call.
constexpr auto kNoticeInterval = std::chrono::milliseconds(20);

template <class T>
std::span<std::byte> bytes_of(T& object) {
  return std::as_writable_bytes(std::span(&object, 1));
}

}  // namespace

std::string describe(const Fingerprint& fingerprint) {
  if (fingerprint.sequence == 0) return "no collective yet";
  return fmt::format("collective {} ({}; {} bytes)", fingerprint.sequence, fingerprint.what.data(),
                     fingerprint.bytes);
}

// What ranks tell each other beside the collectives.
struct Comm::Notice {
  static constexpr int64_t kGivesUp = 1, kAsks = 2, kAnswers = 3;
  int64_t kind = 0;
  int64_t waits_for = -1;  // a rank
  Fingerprint at;
  std::array<char, 1024> sentence{};  // why it gives up
};

struct Comm::Peer {
  Notice incoming;
  std::optional<Notice> heard;  // since this rank has asked
  std::unique_ptr<Transfer> transfer;
};

Comm::Comm(std::unique_ptr<Transport> transport, CommOptions options)
    : owned_(std::move(transport)),
      transport_(owned_.get()),
      members_(static_cast<size_t>(transport_->size())),
      rank_(transport_->rank()),
      options_(options),
      peers_(members_.size()) {
  std::iota(members_.begin(), members_.end(), 0);
  require(options.deadline > 0 && options.grace > 0,
          "comm: the deadline is {} s and the grace {} s; both must be positive", options.deadline,
          options.grace);
  for (int peer = 0; peer < size(); ++peer)
    if (peer != rank()) await_notice(peer);
}

Comm::Comm(Comm& all, std::vector<int> members)
    : transport_(all.transport_),
      all_(&all.root()),
      members_(std::move(members)),
      options_(all.options_) {
  for (int& member : members_) member = all.in_all(member);
  const auto own = std::find(members_.begin(), members_.end(), transport_->rank());
  require(own != members_.end(), "comm: rank {} is not among the members", transport_->rank());
  rank_ = static_cast<int>(own - members_.begin());
}

Comm::~Comm() = default;

// --- messages ---

void Comm::begin(std::string_view what) {
  ++traffic_.collectives;
  current_ = {.sequence = current_.sequence + 1};
  std::copy_n(what.begin(), std::min(what.size(), Fingerprint::kMaxText), current_.what.begin());
}

Comm::Message Comm::send(int to, std::span<const std::byte> bytes) {
  Message message;
  message.peer_ = to;
  message.header_ = std::make_unique<Fingerprint>(current_);
  message.header_->bytes = static_cast<int64_t>(bytes.size());
  message.header_transfer_ =
      transport_->send(in_all(to), Channel::kHeader, bytes_of(*message.header_));
  message.payload_transfer_ = transport_->send(in_all(to), Channel::kPayload, bytes);
  traffic_.bytes_sent += static_cast<int64_t>(bytes.size());
  if (all_ != nullptr) all_->traffic_.bytes_sent += static_cast<int64_t>(bytes.size());
  return message;
}

Comm::Message Comm::receive(int from, std::span<std::byte> bytes) {
  Message message;
  message.peer_ = from;
  message.expected_ = current_;
  message.expected_->bytes = static_cast<int64_t>(bytes.size());
  message.header_ = std::make_unique<Fingerprint>();
  message.header_transfer_ =
      transport_->receive(in_all(from), Channel::kHeader, bytes_of(*message.header_));
  message.payload_transfer_ = transport_->receive(in_all(from), Channel::kPayload, bytes);
  return message;
}

void Comm::finish(Message& message) {
  if (!message.header_transfer_) return;
  current_.bytes = message.expected_ ? message.expected_->bytes : message.header_->bytes;
  root().place_ = current_;
  await(*message.header_transfer_, message.peer_);
  if (message.expected_ && *message.header_ != *message.expected_)
    stop(
        fmt::format("rank {} is at {} and rank {} at {}: all ranks must run the same program with "
                    "the same recipe",
                    transport_->rank(), describe(*message.expected_), in_all(message.peer_),
                    describe(*message.header_)));
  await(*message.payload_transfer_, message.peer_);
  message.header_transfer_.reset();
}

// --- waiting ---

void Comm::await(Transfer& transfer, int peer) {
  if (all_ != nullptr) return all_->await(transfer, in_all(peer));
  const Clock::time_point start = Clock::now();
  Clock::time_point looked = start;
  waits_for_ = peer;
  while (!transfer.done()) {
    const Clock::time_point now = Clock::now();
    if (now - looked > kNoticeInterval) {
      looked = now;
      look_for_notices();
    }
    const double waited = std::chrono::duration<double>(now - start).count();
    if (waited > options_.deadline) accuse(waited);
    transport_->rest();
  }
  waits_for_ = -1;
}

void Comm::await_notice(int from) {
  Peer& peer = peers_[static_cast<size_t>(from)];
  peer.transfer = transport_->receive(from, Channel::kNotice, bytes_of(peer.incoming));
}

void Comm::look_for_notices() {
  for (int from = 0; from < size(); ++from) {
    Peer& peer = peers_[static_cast<size_t>(from)];
    while (from != rank() && peer.transfer->done()) {
      const Notice notice = peer.incoming;
      await_notice(from);
      if (notice.kind == Notice::kGivesUp)
        throw CommError(
            printable(fmt::format("rank {} has given up: {}", from, notice.sentence.data())));
      if (notice.kind == Notice::kAsks) tell(from, whereabouts(Notice::kAnswers));
      peer.heard = notice;
    }
  }
}

Comm::Notice Comm::whereabouts(int64_t kind) const {
  return {.kind = kind, .waits_for = waits_for_, .at = place_};
}

// Does not wait for long: whoever does not take it is past help.
void Comm::tell(int to, const Notice& notice) {
  const auto sent = std::make_unique<Notice>(notice);
  const auto transfer = transport_->send(to, Channel::kNotice, bytes_of(*sent));
  const Clock::time_point start = Clock::now();
  while (!transfer->done() && Clock::now() - start < std::chrono::milliseconds(200))
    transport_->rest();
}

// The deadline is over: asks all ranks where they are, and names those that do not say.
void Comm::accuse(double waited) {
  for (Peer& peer : peers_) peer.heard.reset();
  for (int to = 0; to < size(); ++to)
    if (to != rank()) tell(to, whereabouts(Notice::kAsks));
  const auto heard_of_all = [&] {
    for (int peer = 0; peer < size(); ++peer)
      if (peer != rank() && !peers_[static_cast<size_t>(peer)].heard) return false;
    return true;
  };
  const Clock::time_point start = Clock::now();
  const std::chrono::duration<double> grace(options_.grace);
  while (!heard_of_all() && Clock::now() - start < grace) {
    look_for_notices();
    transport_->rest();
  }
  std::string silent, others;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    const std::optional<Notice>& heard = peers_[static_cast<size_t>(peer)].heard;
    if (!heard)
      silent += fmt::format("{}{}", silent.empty() ? "" : ", ", peer);
    else
      others += fmt::format("; rank {} is at {}, waiting for rank {}", peer, describe(heard->at),
                            heard->waits_for);
  }
  const std::string where = fmt::format("rank {} has waited {:.0f} s for rank {} in {}", rank(),
                                        waited, waits_for_, describe(place_));
  if (silent.empty()) stop(fmt::format("{}, and all ranks wait for each other{}", where, others));
  stop(
      fmt::format("rank {} does not answer: it is dead, stopped or cut off, or computes for longer "
                  "than --comm-timeout allows; {}{}",
                  silent, where, others));
}

void Comm::stop(const std::string& sentence) {
  root().give_up(sentence);
  throw CommError(printable(sentence));
}

void Comm::give_up(std::string_view sentence) noexcept {
  try {
    Notice notice = whereabouts(Notice::kGivesUp);
    std::copy_n(sentence.begin(), std::min(sentence.size(), notice.sentence.size() - 1),
                notice.sentence.begin());
    for (int to = 0; to < size(); ++to)
      if (to != rank()) tell(to, notice);
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): it was worth a try
  }
}

// --- collectives ---

void Comm::all_to_all(std::span<const std::span<const std::byte>> to,
                      std::span<const std::span<std::byte>> from, std::string_view what) {
  begin(what);
  std::vector<Message> messages;
  // Each begins with its neighbour, so that nobody is everybody's first.
  for (int step = 1; step < size(); ++step) {
    const int source = (rank() - step + size()) % size();
    messages.push_back(receive(source, from[static_cast<size_t>(source)]));
  }
  for (int step = 1; step < size(); ++step) {
    const int target = (rank() + step) % size();
    messages.push_back(send(target, to[static_cast<size_t>(target)]));
  }
  for (Message& message : messages) finish(message);
}

void Comm::all_gather(std::span<const std::byte> mine, std::span<std::byte> all,
                      std::string_view what) {
  require(all.size() == mine.size() * static_cast<size_t>(size()),
          "all_gather: {} bytes of each of {} ranks do not make {}", mine.size(), size(),
          all.size());
  std::vector<std::span<std::byte>> from;
  for (int source = 0; source < size(); ++source)
    from.push_back(all.subspan(static_cast<size_t>(source) * mine.size(), mine.size()));
  std::copy(mine.begin(), mine.end(), from[static_cast<size_t>(rank())].begin());
  const std::vector<std::span<const std::byte>> to(static_cast<size_t>(size()), mine);
  all_to_all(to, from, what);
}

std::vector<std::vector<std::byte>> Comm::all_gather_any(std::span<const std::byte> mine,
                                                         std::string_view what) {
  auto length = static_cast<int64_t>(mine.size());
  std::vector<int64_t> lengths(static_cast<size_t>(size()));
  all_gather(bytes_of(length), std::as_writable_bytes(std::span(lengths)), what);
  std::vector<std::vector<std::byte>> parts;
  std::vector<std::span<std::byte>> from;
  for (const int64_t bytes : lengths) parts.emplace_back(static_cast<size_t>(bytes));
  for (std::vector<std::byte>& part : parts) from.emplace_back(part);
  std::copy(mine.begin(), mine.end(), from[static_cast<size_t>(rank())].begin());
  const std::vector<std::span<const std::byte>> to(static_cast<size_t>(size()), mine);
  all_to_all(to, from, what);
  return parts;
}

void Comm::sum(std::span<double> values, std::string_view what) {
  if (size() == 1) return;
  std::vector<double> all(values.size() * static_cast<size_t>(size()));
  all_gather(std::as_bytes(values), std::as_writable_bytes(std::span(all)), what);
  std::fill(values.begin(), values.end(), 0.0);
  for (size_t i = 0; i < all.size(); ++i) values[i % values.size()] += all[i];
}

void Comm::broadcast(std::span<std::byte> bytes, int root, std::string_view what) {
  begin(what);
  std::vector<Message> messages;
  if (rank() != root) messages.push_back(receive(root, bytes));
  for (int to = 0; rank() == root && to < size(); ++to)
    if (to != root) messages.push_back(send(to, bytes));
  for (Message& message : messages) finish(message);
}

void Comm::barrier(std::string_view what) {
  const std::byte here{1};
  std::vector<std::byte> all(static_cast<size_t>(size()));
  all_gather(std::span(&here, 1), all, what);
}

}  // namespace ringfort
