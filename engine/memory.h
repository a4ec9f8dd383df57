// Pool: free lists of device memory. Kernels never allocate; ops take blocks from the pool of their
// pass, and a block goes back to the list it came from when the last tensor on it dies. After the
// first step nothing is allocated.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "kernels/exec.h"

namespace ringfort {

// Memory shared by the tensors on it; 64-byte aligned.
class Block {
 public:
  virtual ~Block() = default;
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 protected:
  Block(void* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

 private:
  void* data_;
  int64_t bytes_;
};

class Pool {
 public:
  // Blocks are used again in the order of the device's one stream, so no block waits for its last
  // reader.
  explicit Pool(Device device = {});
  ~Pool();
  Pool(Pool&&) noexcept;
  Pool& operator=(Pool&&) noexcept;

  Device device() const;

  // Uninitialised. Blocks may outlive the pool. Errors: no memory left, with the size that was
  // asked for.
  std::shared_ptr<Block> allocate(int64_t bytes);

  // From now on no block goes back to the device before the pool and its last tensor are gone, not
  // even where memory runs out: a recording writes to them again, also to those that no tensor
  // holds.
  void keep_blocks();

  int64_t bytes_in_use() const;    // held by living tensors
  int64_t peak_bytes() const;      // highest bytes_in_use since reset_peak
  int64_t bytes_reserved() const;  // in use or in a free list
  void reset_peak();

 private:
  struct FreeLists;
  std::shared_ptr<FreeLists> lists_;
};

}  // namespace ringfort
