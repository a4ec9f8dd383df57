// A payload is posted first and handed to NCCL when somebody waits, so that what belongs together,
// a send and the receive that answers it, is one group and cannot wait for each other. No call
// blocks: NCCL connects to a rank on first use, and would wait for a dead one forever.
#include "distributed/nccl_transport.h"

#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <set>
#include <thread>

#include "kernels/exec_cuda.h"

namespace ringfort {
namespace {

using Clock = std::chrono::steady_clock;

// Seconds that NCCL has to end a communicator in order.
constexpr double kEndWait = 10;

class Event {
 public:
  Event() {
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  // What is queued on `stream` from now on follows what was recorded.
  void hold(cudaStream_t stream) const {
    check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
  }
  bool passed() const {
    const cudaError_t status = cudaEventQuery(event_);
    if (status != cudaErrorNotReady) check(status, "cudaEventQuery");
    return status == cudaSuccess;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// Payloads that move together.
struct Group {
  bool queued = false;  // on the stream, and `end` behind it
  Event end;
};

struct Payload {
  bool sends;
  int peer;
  void* bytes;
  size_t count;
  std::shared_ptr<Group> group;  // null while it is only posted
};

// Until it is done, or throws CommError after `deadline` seconds.
void await(Transport& control, Transfer& transfer, int peer, double deadline) {
  const Clock::time_point start = Clock::now();
  while (!transfer.done()) {
    if (Clock::now() - start > std::chrono::duration<double>(deadline))
      throw CommError(fmt::format(
          "rank {} has not come to make NCCL's communicator within {:.0f} s", peer, deadline));
    control.rest();
  }
}

// NCCL's name of the communicator that is to be made, from rank 0 to all.
ncclUniqueId share_id(Transport& control, double deadline) {
  ncclUniqueId id{};
  const auto bytes = std::as_writable_bytes(std::span(&id, 1));
  if (control.rank() != 0) {
    await(control, *control.receive(0, Channel::kHeader, bytes), 0, deadline);
    return id;
  }
  const ncclResult_t result = ncclGetUniqueId(&id);
  require(result == ncclSuccess, "NCCL cannot be started: {}", ncclGetErrorString(result));
  for (int to = 1; to < control.size(); ++to)
    await(control, *control.send(to, Channel::kHeader, bytes), to, deadline);
  return id;
}

// The communicator, its stream, and what is posted.
class Lane {
 public:
  Lane(Transport& control, Exec& exec, double deadline) : exec_(exec) {
    check(cudaSetDevice(exec.device().index), "cudaSetDevice");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    const ncclUniqueId id = share_id(control, deadline);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    judge(ncclCommInitRankConfig(&comm_, control.size(), id, control.rank(), &config));
    if (!settle(deadline)) {
      abort();
      throw CommError(fmt::format(
          "NCCL's communicator of {} ranks was not made within {:.0f} s: a rank is missing, or the "
          "machines cannot reach each other (NCCL_DEBUG=INFO tells more)",
          control.size(), deadline));
    }
  }
  ~Lane() {
    end();
    cudaStreamDestroy(stream_);
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  std::shared_ptr<Payload> post(bool sends, int peer, void* bytes, size_t count) {
    require_whole();
    posted_.push_back(std::make_shared<Payload>(Payload{sends, peer, bytes, count, nullptr}));
    return posted_.back();
  }

  bool done(const Payload& payload) {
    require_whole();
    while (advance() && !payload.group) launch();
    return payload.group && payload.group->queued && payload.group->end.passed();
  }

  // Somebody else may wait for what this rank sends.
  void push() {
    const auto sends = [](const auto& payload) { return payload->sends; };
    while (comm_ != nullptr && advance() && std::any_of(posted_.begin(), posted_.end(), sends))
      launch();
  }

  // NCCL may not use the memory of a payload that is dropped.
  void drop(const std::shared_ptr<Payload>& payload) {
    if (payload->group)
      abort();
    else
      std::erase(posted_, payload);
  }

 private:
  void require_whole() const {
    if (comm_ == nullptr) throw CommError("nothing more can be exchanged: NCCL has failed before");
  }

  // Results that tell of a failure end the communicator.
  void judge(ncclResult_t result) {
    if (result == ncclSuccess || result == ncclInProgress) return;
    const std::string sentence =
        fmt::format("NCCL: {} ({})", ncclGetErrorString(result), ncclGetLastError(comm_));
    abort();
    throw CommError(printable(sentence));
  }

  // Whether NCCL has begun what it was last asked for.
  bool ready() {
    ncclResult_t state = ncclSuccess;
    judge(ncclCommGetAsyncError(comm_, &state));
    judge(state);
    return state == ncclSuccess;
  }
  bool settle(double deadline) {
    const Clock::time_point start = Clock::now();
    while (!ready()) {
      if (Clock::now() - start > std::chrono::duration<double>(deadline)) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  // Whether the next group can be launched.
  bool advance() {
    if (!ready()) return false;
    if (launching_) {
      launching_->end.record(stream_);
      launching_->queued = true;
      launching_.reset();
    }
    return true;
  }

  // The oldest payloads, at most one to and one from each rank, as a group.
  void launch() {
    check(cudaSetDevice(exec_.device().index), "cudaSetDevice");  // of this thread
    Event produced;
    produced.record(exec_.cuda().stream());
    produced.hold(stream_);
    launching_ = std::make_shared<Group>();
    std::set<std::pair<bool, int>> taken;
    std::deque<std::shared_ptr<Payload>> left;
    judge(ncclGroupStart());
    for (const std::shared_ptr<Payload>& payload : posted_) {
      const auto& [sends, peer, bytes, count, group] = *payload;
      if (!taken.insert({sends, peer}).second) {
        left.push_back(payload);
        continue;
      }
      judge(sends ? ncclSend(bytes, count, ncclUint8, peer, comm_, stream_)
                  : ncclRecv(bytes, count, ncclUint8, peer, comm_, stream_));
      payload->group = launching_;
    }
    judge(ncclGroupEnd());
    posted_ = std::move(left);
  }

  void abort() noexcept {
    if (comm_ != nullptr) ncclCommAbort(comm_);
    comm_ = nullptr;
  }

  void end() noexcept {
    if (comm_ == nullptr) return;
    try {
      const bool in_order = std::uncaught_exceptions() == exceptions_;
      if (in_order) judge(ncclCommFinalize(comm_));
      if (in_order && settle(kEndWait)) ncclCommDestroy(std::exchange(comm_, nullptr));
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the results are saved by now
    }
    abort();
  }

  Exec& exec_;
  const int exceptions_ = std::uncaught_exceptions();
  cudaStream_t stream_ = nullptr;
  ncclComm_t comm_ = nullptr;
  std::deque<std::shared_ptr<Payload>> posted_;  // in the order of posting
  std::shared_ptr<Group> launching_;             // not yet queued by NCCL
};

class NcclTransfer : public Transfer {
 public:
  NcclTransfer(std::shared_ptr<Lane> lane, std::shared_ptr<Payload> payload)
      : lane_(std::move(lane)), payload_(std::move(payload)) {}
  ~NcclTransfer() override {
    if (!done_) lane_->drop(payload_);
  }
  NcclTransfer(const NcclTransfer&) = delete;
  NcclTransfer& operator=(const NcclTransfer&) = delete;
  bool done() override { return done_ = done_ || lane_->done(*payload_); }

 private:
  std::shared_ptr<Lane> lane_;
  std::shared_ptr<Payload> payload_;
  bool done_ = false;
};

class Nothing : public Transfer {
 public:
  bool done() override { return true; }
};

class NcclTransport : public Transport {
 public:
  NcclTransport(std::unique_ptr<Transport> control, Exec& exec, double deadline)
      : control_(std::move(control)), lane_(std::make_shared<Lane>(*control_, exec, deadline)) {}

  int rank() const override { return control_->rank(); }
  int size() const override { return control_->size(); }
  std::string host() const override { return control_->host(); }
  bool on_device() const override { return true; }
  std::string name() const override {
    int version = 0;  // 22809 for 2.28.9
    ncclGetVersion(&version);
    return fmt::format("NCCL {}.{}.{} and {}", version / 10000, version / 100 % 100, version % 100,
                       control_->name());
  }

  std::unique_ptr<Transfer> send(int to, Channel channel,
                                 std::span<const std::byte> bytes) override {
    if (channel != Channel::kPayload) return control_->send(to, channel, bytes);
    // NCCL only reads it.
    return post(true, to, const_cast<std::byte*>(bytes.data()), bytes.size());
  }
  std::unique_ptr<Transfer> receive(int from, Channel channel,
                                    std::span<std::byte> bytes) override {
    if (channel != Channel::kPayload) return control_->receive(from, channel, bytes);
    return post(false, from, bytes.data(), bytes.size());
  }

  void rest() override {
    lane_->push();
    control_->rest();
  }
  void abort(int exit_code) override { control_->abort(exit_code); }

 private:
  std::unique_ptr<Transfer> post(bool sends, int peer, void* bytes, size_t count) {
    require(peer >= 0 && peer < size() && peer != rank(), "rank {} cannot exchange with rank {}",
            rank(), peer);
    if (count == 0) return std::make_unique<Nothing>();
    return std::make_unique<NcclTransfer>(lane_, lane_->post(sends, peer, bytes, count));
  }

  std::unique_ptr<Transport> control_;
  std::shared_ptr<Lane> lane_;
};

}  // namespace

std::unique_ptr<Transport> nccl_transport(std::unique_ptr<Transport> control, Exec& exec,
                                          double deadline) {
  require(exec.on_cuda(), "NCCL needs a CUDA device, and this is {}; use --comm mpi",
          to_string(exec.device()));
  require(!control->on_device(), "NCCL's headers cannot go over {}", control->name());
  return std::make_unique<NcclTransport>(std::move(control), exec, deadline);
}

bool has_nccl() { return true; }

}  // namespace ringfort
