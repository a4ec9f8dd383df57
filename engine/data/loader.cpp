// One thread per epoch and a queue of two batches. A stop request (a new epoch, the destructor)
// wakes every wait.
#include "engine/data/loader.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "kernels/error.h"
#include "kernels/philox.h"

namespace ringfort {
namespace {

// Uniform in [0, bound) without bias: Lemire, "Fast Random Integer Generation in an Interval"
// (2019). Rejected draws take the next element of the same position's stream.
uint32_t bounded_draw(const RandomKey& key, uint64_t position, uint32_t bound) {
  const uint32_t reject_below = (0u - bound) % bound;  // 2^32 mod bound
  for (uint32_t attempt = 0;; ++attempt) {
    const uint64_t product = uint64_t{key.word(position, attempt)} * bound;
    if (static_cast<uint32_t>(product) >= reject_below) return static_cast<uint32_t>(product >> 32);
  }
}

}  // namespace

std::vector<int64_t> epoch_order(std::span<const int64_t> indices, uint64_t seed, uint32_t epoch) {
  require(indices.size() <= UINT32_MAX, "an epoch of {} samples is too long to shuffle",
          indices.size());
  const RandomKey key{seed, Purpose::kOrder, epoch};
  std::vector<int64_t> order(indices.begin(), indices.end());
  for (size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[bounded_draw(key, i - 1, static_cast<uint32_t>(i))]);
  return order;
}

Loader::Loader(const Dataset& data, std::vector<int64_t> indices, LoaderOptions options)
    : data_(data),
      indices_(std::move(indices)),
      options_(options),
      gatherer_(data, indices_, options.workers) {
  require(options_.batch_size >= 1, "the batch size is {}; it must be at least 1",
          options_.batch_size);
  require(!indices_.empty(), "data set {}: no samples are left to load", data.name);
  const auto [low, high] = std::minmax_element(indices_.begin(), indices_.end());
  require(*low >= 0 && *high < data.count,
          "data set {}: samples {} to {} were asked for, it has {} (0 to {})", data.name, *low,
          *high, data.count, data.count - 1);
  require(options_.ranks >= 1 && options_.rank >= 0 && options_.rank < options_.ranks,
          "rank {} of {} cannot load data; ranks count from 0", options_.rank, options_.ranks);
  require(options_.batch_size <= INT64_MAX / options_.ranks,
          "{} ranks cannot have batches of {} each", options_.ranks, options_.batch_size);
  require(!options_.drop_last || batches_per_epoch() >= 1,
          "data set {}: {} samples do not fill one batch of {}{}; use a smaller batch size",
          data.name, indices_.size(), options_.batch_size,
          options_.ranks > 1 ? fmt::format(" on each of {} ranks", options_.ranks) : "");
}

Loader::Part Loader::part_of(int64_t batch) const {
  const int64_t first = batch * samples_of_all();
  const int64_t size = std::min(samples_of_all(), static_cast<int64_t>(indices_.size()) - first);
  // The first ranks take one more where it does not divide.
  const int64_t each = size / options_.ranks, left = size % options_.ranks;
  const int64_t rank = options_.rank;
  return {first + rank * each + std::min(rank, left), each + (rank < left ? 1 : 0)};
}

int64_t Loader::batches_per_epoch() const {
  const int64_t full = static_cast<int64_t>(indices_.size()) / samples_of_all();
  return full + (!options_.drop_last && part_of(full).size > 0 ? 1 : 0);
}

int64_t Loader::samples_per_epoch() const {
  const int64_t full = static_cast<int64_t>(indices_.size()) / samples_of_all();
  return full * options_.batch_size + (options_.drop_last ? 0 : part_of(full).size);
}

int64_t Loader::samples_per_batch() const {
  return std::min<int64_t>(options_.batch_size, static_cast<int64_t>(indices_.size()));
}

void Loader::start_epoch(uint32_t epoch, int64_t first) {
  thread_ = std::jthread();  // stops and joins the epoch before: no lock is needed below
  for (Batch& batch : ready_) spare_.push_back(std::move(batch));
  ready_.clear();
  error_ = nullptr;
  finished_ = false;
  thread_ = std::jthread(
      [this, epoch, first](const std::stop_token& stop) { gather_epoch(stop, epoch, first); });
}

bool Loader::next(Batch& batch) {
  require(thread_.joinable(), "data set {}: call start_epoch() before next()", data_.name);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !ready_.empty() || finished_; });
  if (ready_.empty()) {
    if (error_) std::rethrow_exception(error_);
    return false;
  }
  std::swap(batch, ready_.front());
  if (spare_.size() < kDepth) spare_.push_back(std::move(ready_.front()));
  ready_.pop_front();
  changed_.notify_all();
  return true;
}

void Loader::gather_epoch(const std::stop_token& stop, uint32_t epoch, int64_t first) {
  std::exception_ptr error;
  try {
    const std::vector<int64_t> order =
        options_.shuffle ? epoch_order(indices_, options_.seed, epoch) : indices_;
    const int64_t batches = batches_per_epoch();
    const ImageTransform transform{data_.height, options_.random_resized_crop, options_.seed,
                                   epoch};
    for (int64_t number = first; number < batches; ++number) {
      const Part part = part_of(number);
      Batch batch = spare_batch();
      const auto samples =
          std::span(order).subspan(static_cast<size_t>(part.first), static_cast<size_t>(part.size));
      if (options_.pixels)
        gatherer_.gather(samples, transform, batch);
      else
        gatherer_.gather_labels(samples, batch);
      if (!put(stop, std::move(batch))) break;
    }
  } catch (...) {
    error = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  error_ = error;
  finished_ = true;
  changed_.notify_all();
}

// Waits for room in the queue; false when the epoch is to stop.
bool Loader::put(const std::stop_token& stop, Batch&& batch) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait(lock, stop, [this] { return ready_.size() < kDepth; })) return false;
  if (stop.stop_requested()) return false;
  ready_.push_back(std::move(batch));
  changed_.notify_all();
  return true;
}

Batch Loader::spare_batch() {
  const std::lock_guard lock(mutex_);
  if (spare_.empty()) return {};
  Batch batch = std::move(spare_.back());
  spare_.pop_back();
  return batch;
}

}  // namespace ringfort
