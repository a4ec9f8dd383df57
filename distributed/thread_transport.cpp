// A mailbox per sender, receiver and channel. A message is copied when it is sent, so no sender
// ever waits for its receiver; receives take messages in the order in which they were asked for.
#include "distributed/thread_transport.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr size_t kChannels = 3;

struct Mailbox {
  std::deque<std::vector<std::byte>> messages;  // not yet taken
  int64_t taken = 0, asked = 0;                 // receives that are done; that were begun
};

struct Post {
  explicit Post(int ranks) : size(ranks), boxes(static_cast<size_t>(ranks * ranks) * kChannels) {}
  Mailbox& box(int from, int to, Channel channel) {
    return boxes[static_cast<size_t>(from * size + to) * kChannels + static_cast<size_t>(channel)];
  }
  const int size;
  std::mutex mutex;  // guards the boxes
  std::condition_variable arrived;
  std::vector<Mailbox> boxes;
};

class Sent : public Transfer {
 public:
  bool done() override { return true; }
};

class Awaited : public Transfer {
 public:
  Awaited(std::shared_ptr<Post> post, Mailbox& box, std::span<std::byte> bytes)
      : post_(std::move(post)), box_(box), bytes_(bytes), turn_(box.asked++) {}

  bool done() override {
    if (done_) return true;
    const std::lock_guard lock(post_->mutex);
    if (turn_ != box_.taken || box_.messages.empty()) return false;
    const std::vector<std::byte> message = std::move(box_.messages.front());
    box_.messages.pop_front();
    ++box_.taken;
    done_ = true;
    require(message.size() == bytes_.size(), "a message of {} bytes came where {} were expected",
            message.size(), bytes_.size());
    std::copy(message.begin(), message.end(), bytes_.begin());
    return true;
  }

 private:
  std::shared_ptr<Post> post_;
  Mailbox& box_;
  std::span<std::byte> bytes_;
  const int64_t turn_;
  bool done_ = false;
};

class ThreadTransport : public Transport {
 public:
  ThreadTransport(std::shared_ptr<Post> post, int rank) : post_(std::move(post)), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return post_->size; }
  std::string name() const override { return "threads"; }
  std::string host() const override { return "this process"; }

  std::unique_ptr<Transfer> send(int to, Channel channel,
                                 std::span<const std::byte> bytes) override {
    {
      const std::lock_guard lock(post_->mutex);
      post_->box(rank_, to, channel).messages.emplace_back(bytes.begin(), bytes.end());
    }
    post_->arrived.notify_all();
    return std::make_unique<Sent>();
  }

  std::unique_ptr<Transfer> receive(int from, Channel channel,
                                    std::span<std::byte> bytes) override {
    const std::lock_guard lock(post_->mutex);
    return std::make_unique<Awaited>(post_, post_->box(from, rank_, channel), bytes);
  }

  void rest() override {
    std::unique_lock lock(post_->mutex);
    // Whatever came between the look and now is seen soon.
    post_->arrived.wait_for(lock, std::chrono::microseconds(200));
  }

 private:
  std::shared_ptr<Post> post_;
  const int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Transport>> thread_transports(int size) {
  require(size >= 1, "a job has at least one rank, not {}", size);
  const auto post = std::make_shared<Post>(size);
  std::vector<std::unique_ptr<Transport>> transports;
  for (int rank = 0; rank < size; ++rank)
    transports.push_back(std::make_unique<ThreadTransport>(post, rank));
  return transports;
}

void run_ranks(int size, const std::function<void(std::unique_ptr<Transport>)>& body) {
  std::vector<std::unique_ptr<Transport>> transports = thread_transports(size);
  std::mutex mutex;
  std::exception_ptr first;
  std::vector<std::jthread> threads;
  for (std::unique_ptr<Transport>& transport : transports)
    threads.emplace_back([&, mine = std::move(transport)]() mutable {
      try {
        body(std::move(mine));
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!first) first = std::current_exception();
      }
    });
  threads.clear();  // joins
  if (first) std::rethrow_exception(first);
}

}  // namespace ringfort
