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

std::vector<int64_t> joined(std::vector<int64_t> first, const std::vector<int64_t>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

}  // namespace

std::vector<int64_t> epoch_order(std::span<const int64_t> indices, uint64_t seed, uint32_t epoch,
                                 Purpose purpose) {
  require(indices.size() <= UINT32_MAX, "an epoch of {} samples is too long to shuffle",
          indices.size());
  const RandomKey key{seed, purpose, epoch};
  std::vector<int64_t> order(indices.begin(), indices.end());
  for (size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[bounded_draw(key, i - 1, static_cast<uint32_t>(i))]);
  return order;
}

Loader::Loader(const Dataset& data, std::vector<int64_t> indices, LoaderOptions options,
               Companions companions)
    : data_(data),
      indices_(std::move(indices)),
      options_(options),
      companions_(std::move(companions)),
      gatherer_(data, joined(indices_, companions_.indices), options.workers) {
  require_possible();
}

void Loader::require_possible() const {
  require(options_.batch_size >= 1, "the batch size is {}; it must be at least 1",
          options_.batch_size);
  require(!indices_.empty(), "data set {}: no samples are left to load", data_.name);
  const std::vector<int64_t> all = joined(indices_, companions_.indices);
  const auto [low, high] = std::minmax_element(all.begin(), all.end());
  require(*low >= 0 && *high < data_.count,
          "data set {}: samples {} to {} were asked for, it has {} (0 to {})", data_.name, *low,
          *high, data_.count, data_.count - 1);
  require(options_.ranks >= 1 && options_.rank >= 0 && options_.rank < options_.ranks,
          "rank {} of {} cannot load data; ranks count from 0", options_.rank, options_.ranks);
  require(options_.batch_size <= INT64_MAX / options_.ranks,
          "{} ranks cannot have batches of {} each", options_.ranks, options_.batch_size);
  const int64_t beside = companions_.per_batch;
  require(beside == 0 || (beside > 0 && beside < options_.batch_size &&
                          !companions_.indices.empty() && options_.drop_last && options_.shuffle),
          "data set {}: {} companions of {} cannot stand in every batch of {}", data_.name, beside,
          companions_.indices.size(), options_.batch_size);
  require(!options_.drop_last || batches_per_epoch() >= 1,
          "data set {}: {} samples do not fill one batch of {}{}; use a smaller batch size",
          data_.name, indices_.size(), own_samples(),
          options_.ranks > 1 ? fmt::format(" on each of {} ranks", options_.ranks) : "");
}

// Of an epoch's batch the part of this rank: those that stand there in the companions' epochs laid
// end to end.
void Loader::add_companions(int64_t batch, uint32_t epoch, std::vector<int64_t>& samples) {
  const int64_t count = std::ssize(companions_.indices), each = companions_.per_batch;
  const int64_t number = int64_t{epoch} * batches_per_epoch() + batch;
  const int64_t first = (number * options_.ranks + options_.rank) * each;
  for (int64_t at = first; at < first + each; ++at) {
    if (companion_epoch_ != at / count) {
      companion_epoch_ = at / count;
      companion_order_ =
          epoch_order(companions_.indices, options_.seed, static_cast<uint32_t>(companion_epoch_),
                      Purpose::kPseudoOrder);
    }
    samples.push_back(companion_order_[static_cast<size_t>(at % count)]);
  }
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
  return std::min(own_samples(), std::ssize(indices_)) + companions_.per_batch;
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
      samples_.assign(order.begin() + part.first, order.begin() + part.first + part.size);
      if (companions_.per_batch > 0) add_companions(number, epoch, samples_);
      if (options_.pixels)
        gatherer_.gather(samples_, transform, batch);
      else
        gatherer_.gather_labels(samples_, batch);
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
