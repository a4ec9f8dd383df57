#include "engine/data/workers.h"

#include "kernels/error.h"

namespace ringfort {

Workers::Workers(int threads) {
  require(threads >= 1, "{} worker threads were asked for; at least one is needed", threads);
  for (int worker = 1; worker < threads; ++worker)
    threads_.emplace_back([this, worker] { wait_for_work(worker); });
}

Workers::~Workers() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::run(int64_t count, const Work& work) {
  {
    const std::lock_guard lock(mutex_);
    work_ = &work;
    count_ = failed_ = count;
    next_ = 0;
    error_ = nullptr;
    busy_ = threads();
    ++runs_;
  }
  changed_.notify_all();
  take_items(0);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return busy_ == 0; });
  if (error_) std::rethrow_exception(error_);
}

void Workers::wait_for_work(int worker) {
  for (uint64_t done = 0;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || runs_ != done; });
      if (stop_) return;
      done = runs_;
    }
    take_items(worker);
  }
}

// An item costs a millisecond or so, taking it under a lock nothing.
void Workers::take_items(int worker) {
  std::unique_lock lock(mutex_);
  while (next_ < count_) {
    const int64_t item = next_++;
    lock.unlock();
    std::exception_ptr error;
    try {
      (*work_)(item, worker);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (!error) continue;
    if (item < failed_) failed_ = item, error_ = error;
    next_ = count_;
  }
  if (--busy_ == 0) changed_.notify_all();
}

}  // namespace ringfort
