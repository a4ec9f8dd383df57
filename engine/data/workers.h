// A few threads that share the items of a list: whoever is free takes the next. What an item gives
// must not depend on who works on it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ringfort {

class Workers {
 public:
  // The caller of run() is one of them; threads >= 1.
  explicit Workers(int threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls work(item, worker) for every item of [0, count), worker of [0, threads()), and returns
  // when all are done. Rethrows the exception of the first item that threw one; the items after it
  // may be left out. One run at a time.
  using Work = std::function<void(int64_t item, int worker)>;
  void run(int64_t count, const Work& work);

 private:
  void wait_for_work(int worker);
  void take_items(int worker);

  std::mutex mutex_;  // guards all below but the threads
  std::condition_variable changed_;
  const Work* work_ = nullptr;
  uint64_t runs_ = 0;
  int64_t count_ = 0, next_ = 0;
  int busy_ = 0;
  int64_t failed_ = 0;  // the first item that did
  std::exception_ptr error_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace ringfort
