// Batches of a data set in an epoch's order, or one rank's part of each, gathered by a thread of
// its own while the batch before is computed on; images in files are decoded by more of them. The
// order is a function of (seed, epoch, indices) only, the pixels of a batch of (seed, epoch, sample
// numbers). Augmentation of images in memory is not done here: it is a kernel, keyed by the sample
// numbers that every batch carries.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <stop_token>
#include <thread>
#include <vector>

#include "engine/data/gather.h"
#include "kernels/philox.h"

namespace ringfort {

// A permutation of `indices`, uniform over all (Fisher-Yates with unbiased draws), keyed by seed,
// epoch and purpose.
std::vector<int64_t> epoch_order(std::span<const int64_t> indices, uint64_t seed, uint32_t epoch,
                                 Purpose purpose = Purpose::kOrder);

// Samples of which every batch has a fixed number beside those that an epoch is of. They are walked
// in epochs of their own, each of which begins where the last has ended, be it within a batch.
struct Companions {
  std::vector<int64_t> indices = {};
  int64_t per_batch = 0;  // of each rank; 0: none
};

struct LoaderOptions {
  int64_t batch_size = 128;
  uint64_t seed = 0;
  bool shuffle = true;     // otherwise the order of the indices, in every epoch
  bool drop_last = false;  // leave out a last batch that is not full, of all ranks together
  // All ranks walk the same order of the epoch. A batch is ranks * batch_size samples of it, of
  // which this one takes the part number `rank`. Of a last batch that is not full the parts are
  // equal but for one sample and may be empty.
  int rank = 0, ranks = 1;
  bool pixels = true;  // false: only labels and sample numbers, for who has the images already
  int workers = 1;     // threads that decode images in files
  bool random_resized_crop = false;  // of images in files; otherwise their centre
};

class Loader {
 public:
  // `data` must outlive the loader. Every index must be in [0, data.count). companions: the last of
  // every batch; they need drop_last and shuffle.
  Loader(const Dataset& data, std::vector<int64_t> indices, LoaderOptions options,
         Companions companions = {});
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Starts to gather this rank's batches of `epoch`, from its batch number `first` on; what was
  // left of another epoch is dropped.
  void start_epoch(uint32_t epoch, int64_t first = 0);

  // The epoch's next batch, or false after its last. `batch`'s buffers are taken back and used
  // again, so a caller that passes the same Batch every time causes no allocations. Rethrows what
  // went wrong while gathering.
  bool next(Batch& batch);

  // Of this rank. With drop_last all ranks have the same numbers, at least 1; without it the last
  // ranks may have a batch less, even none.
  int64_t batches_per_epoch() const;
  int64_t samples_per_epoch() const;
  int64_t samples_per_batch() const;  // at most

 private:
  struct Part {
    int64_t first, size;  // in the epoch's order
  };
  Part part_of(int64_t batch) const;  // this rank's
  int64_t own_samples() const { return options_.batch_size - companions_.per_batch; }
  int64_t samples_of_all() const { return own_samples() * options_.ranks; }  // in a batch
  void require_possible() const;
  void add_companions(int64_t batch, uint32_t epoch, std::vector<int64_t>& samples);
  void gather_epoch(const std::stop_token& stop, uint32_t epoch, int64_t first);
  bool put(const std::stop_token& stop, Batch&& batch);
  Batch spare_batch();

  static constexpr size_t kDepth = 2;  // batches waiting; one is enough unless gathering is uneven

  const Dataset& data_;
  const std::vector<int64_t> indices_;
  const LoaderOptions options_;
  const Companions companions_;
  BatchGatherer gatherer_;  // of the epoch's thread, as the three below
  std::vector<int64_t> samples_;
  std::vector<int64_t> companion_order_;  // of their epoch ...
  int64_t companion_epoch_ = -1;          // ... of this number

  std::mutex mutex_;  // guards the four below
  std::deque<Batch> ready_;
  std::vector<Batch> spare_;
  std::exception_ptr error_;
  bool finished_ = false;
  std::condition_variable_any changed_;
  std::jthread thread_;  // last: it is stopped and joined before anything it uses goes
};

}  // namespace ringfort
