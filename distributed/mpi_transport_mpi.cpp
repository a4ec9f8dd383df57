// A message is a nonblocking MPI send or receive, or several where it is long; a channel is a tag.
// MPI may use the memory of a transfer until it has completed. One that is dropped before is
// therefore waited for, briefly; where that is in vain, MPI is not called any more.
#include "distributed/mpi_transport.h"

#include <mpi.h>
#include <sched.h>

#include <array>
#include <chrono>
#include <exception>
#include <list>
#include <thread>
#include <vector>

namespace ringfort {
namespace {

using Clock = std::chrono::steady_clock;

// A dropped transfer that has begun gets this long to complete.
constexpr auto kDropWait = std::chrono::milliseconds(500);
// Messages up to this length are copied when sent: whoever sends a notice need not wait for whoever
// does not take it.
constexpr size_t kCopied = 4096;
// Looks in vain before a rank sleeps between them: together about a millisecond.
constexpr int kYields = 1000;
constexpr auto kSleep = std::chrono::microseconds(50);

std::string reason(int code) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS)
    return fmt::format("error {}", code);
  return {text.data(), static_cast<size_t>(length)};
}

int error_class(int code) {
  int result = MPI_ERR_UNKNOWN;
  MPI_Error_class(code, &result);
  return result;
}

struct Part {
  MPI_Request request;
  int bytes;
};

// A short send that nobody waits for, with its copy of the message.
struct Orphan {
  std::vector<std::byte> message;
  MPI_Request request;
};

// What transfers share with their transport.
struct Link {
  MPI_Comm comm = MPI_COMM_NULL;
  std::list<Orphan> orphans;
  bool broken = false;     // MPI is not called any more
  bool abandoned = false;  // another rank may wait for what will never come
  int vain_looks = 0;

  void check(int code, const char* doing, int peer) {
    if (code == MPI_SUCCESS) return;
    broken = true;
    throw CommError(
        printable(fmt::format("{} rank {} failed in MPI: {}", doing, peer, reason(code))));
  }

  void require_whole() const {
    if (broken) throw CommError("nothing more can be sent or received: MPI has failed before");
  }

  void forget_finished_orphans() {
    orphans.remove_if([](Orphan& orphan) {
      int done = 0;
      return MPI_Test(&orphan.request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done != 0;
    });
  }
};

class MpiTransfer : public Transfer {
 public:
  MpiTransfer(std::shared_ptr<Link> link, int peer, bool receives, bool is_notice)
      : link_(std::move(link)), peer_(peer), receives_(receives), is_notice_(is_notice) {}
  ~MpiTransfer() override {
    if (next_ < parts_.size() && !link_->broken) drop();
  }

  // `start` begins the operation on a part of the message.
  template <class Start>
  void begin(std::byte* message, size_t bytes, size_t largest_part, const Start& start) {
    const size_t count = std::max<size_t>(1, (bytes + largest_part - 1) / largest_part);
    for (size_t i = 0; i < count; ++i) {
      const size_t at = i * largest_part;
      const auto length = static_cast<int>(std::min(largest_part, bytes - at));
      MPI_Request request = MPI_REQUEST_NULL;
      link_->check(start(message + at, length, &request), doing(), peer_);
      parts_.push_back({request, length});
    }
  }
  void begin_send(std::span<const std::byte> message, int tag, size_t largest_part) {
    if (message.size() <= kCopied) {
      copy_.assign(message.begin(), message.end());
      message = copy_;
    }
    begin(const_cast<std::byte*>(message.data()), message.size(), largest_part,
          [&](const std::byte* part, int bytes, MPI_Request* request) {
            return MPI_Isend(part, bytes, MPI_BYTE, peer_, tag, link_->comm, request);
          });
  }
  void begin_receive(std::span<std::byte> message, int tag, size_t largest_part) {
    begin(message.data(), message.size(), largest_part,
          [&](std::byte* part, int bytes, MPI_Request* request) {
            return MPI_Irecv(part, bytes, MPI_BYTE, peer_, tag, link_->comm, request);
          });
  }

  bool done() override {
    if (next_ == parts_.size()) return true;
    link_->require_whole();
    for (; next_ < parts_.size(); ++next_) {
      int complete = 0;
      MPI_Status status;
      const int code = MPI_Test(&parts_[next_].request, &complete, &status);
      if (code == MPI_SUCCESS && complete == 0) {
        ++link_->vain_looks;
        return false;
      }
      if (receives_) check_length(parts_[next_].bytes, code, status);
      link_->check(code, doing(), peer_);
    }
    link_->vain_looks = 0;
    return true;
  }

 private:
  const char* doing() const { return receives_ ? "receiving from" : "sending to"; }

  void check_length(int expected, int code, const MPI_Status& status) {
    const bool longer = code != MPI_SUCCESS && error_class(code) == MPI_ERR_TRUNCATE;
    int came = 0;
    MPI_Get_count(&status, MPI_BYTE, &came);
    if (!longer && (code != MPI_SUCCESS || came == expected)) return;
    link_->abandoned = true;
    next_ = parts_.size();  // what other parts there are is of no use, and is left to MPI
    if (longer)
      fail("a message of more than {} bytes came from rank {} where {} were expected", expected,
           peer_, expected);
    fail("a message of {} bytes came from rank {} where {} were expected", came, peer_, expected);
  }

  void drop() {
    if (!is_notice_) link_->abandoned = true;
    if (!receives_ && !copy_.empty()) {
      link_->orphans.push_back({std::move(copy_), parts_[0].request});
      return;
    }
    const Clock::time_point start = Clock::now();
    for (; next_ < parts_.size(); ++next_) {
      MPI_Request& request = parts_[next_].request;
      if (receives_) MPI_Cancel(&request);
      int complete = 0;
      while (MPI_Test(&request, &complete, MPI_STATUS_IGNORE) == MPI_SUCCESS && complete == 0 &&
             Clock::now() - start < kDropWait)
        ::sched_yield();
      if (complete == 0) link_->broken = true;
    }
  }

  std::shared_ptr<Link> link_;
  const int peer_;
  const bool receives_, is_notice_;
  std::vector<Part> parts_;
  std::vector<std::byte> copy_;  // of a short message that is sent
  size_t next_ = 0;              // the first part that is not complete
};

class MpiTransport : public Transport {
 public:
  explicit MpiTransport(size_t largest_part)
      : largest_part_(largest_part), link_(std::make_shared<Link>()) {
    start();
    require_success(MPI_Comm_dup(MPI_COMM_WORLD, &link_->comm));
    require_success(MPI_Comm_set_errhandler(link_->comm, MPI_ERRORS_RETURN));
    require_success(MPI_Comm_rank(link_->comm, &rank_));
    require_success(MPI_Comm_size(link_->comm, &size_));
  }

  // Nobody can catch what goes wrong here, and the results are saved by now.
  ~MpiTransport() override {
    if (link_->broken || link_->abandoned || std::uncaught_exceptions() > exceptions_) return;
    link_->forget_finished_orphans();
    if (!link_->orphans.empty()) return;
    MPI_Comm_free(&link_->comm);
    if (started_) MPI_Finalize();
  }
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  // Of "Open MPI v4.1.4, package: ..." the beginning.
  std::string name() const override {
    std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
    int length = 0;
    MPI_Get_library_version(text.data(), &length);
    std::string version(text.data(), static_cast<size_t>(length));
    version.resize(std::min(version.size(), version.find_first_of(",\n")));
    if (const size_t v = version.find(" v"); v != std::string::npos) version.erase(v + 1, 1);
    return fmt::format("MPI ({})", version);
  }

  std::string host() const override {
    std::array<char, MPI_MAX_PROCESSOR_NAME> text{};
    int length = 0;
    MPI_Get_processor_name(text.data(), &length);
    return {text.data(), static_cast<size_t>(length)};
  }

  std::unique_ptr<Transfer> send(int to, Channel channel,
                                 std::span<const std::byte> bytes) override {
    auto transfer = open(to, channel, false);
    transfer->begin_send(bytes, tag(channel), largest_part_);
    return transfer;
  }

  std::unique_ptr<Transfer> receive(int from, Channel channel,
                                    std::span<std::byte> bytes) override {
    auto transfer = open(from, channel, true);
    transfer->begin_receive(bytes, tag(channel), largest_part_);
    return transfer;
  }

  // Others may need this core to send what is waited for.
  void rest() override {
    if (link_->vain_looks < kYields)
      ::sched_yield();
    else
      std::this_thread::sleep_for(kSleep);
  }

  void abort(int exit_code) override { MPI_Abort(link_->comm, exit_code); }

 private:
  static int tag(Channel channel) { return static_cast<int>(channel); }

  static void require_success(int code) {
    require(code == MPI_SUCCESS, "MPI cannot be started: {}", reason(code));
  }

  void start() {
    int initialized = 0, finalized = 0, threads = MPI_THREAD_SINGLE;
    MPI_Initialized(&initialized);
    MPI_Finalized(&finalized);
    require(finalized == 0, "MPI has ended in this process and cannot be started again");
    if (initialized == 0) {
      require_success(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &threads));
      started_ = true;
    } else {
      require_success(MPI_Query_thread(&threads));
    }
    require(threads >= MPI_THREAD_SERIALIZED,
            "this MPI serves one thread only; start it with MPI_THREAD_SERIALIZED, or install one "
            "that was built with thread support");
  }

  std::unique_ptr<MpiTransfer> open(int peer, Channel channel, bool receives) {
    require(peer >= 0 && peer < size_, "there is no rank {} among {}", peer, size_);
    link_->require_whole();
    link_->forget_finished_orphans();
    return std::make_unique<MpiTransfer>(link_, peer, receives, channel == Channel::kNotice);
  }

  const size_t largest_part_;
  const int exceptions_ = std::uncaught_exceptions();
  std::shared_ptr<Link> link_;
  int rank_ = 0, size_ = 1;
  bool started_ = false;  // by this object
};

}  // namespace

std::unique_ptr<Transport> mpi_transport(size_t largest_part) {
  require(largest_part >= 1 && largest_part <= size_t{1} << 30,
          "MPI counts a message's bytes in 32 bits: parts of {} bytes are too long, or none",
          largest_part);
  return std::make_unique<MpiTransport>(largest_part);
}

bool has_mpi() { return true; }

}  // namespace ringfort
