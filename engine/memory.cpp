#include "engine/memory.h"

#include <algorithm>

#include "kernels/device_memory.h"

namespace ringfort {

struct Pool::FreeLists {
  explicit FreeLists(Device device_in) : device(device_in) {}

  const Device device;
  std::multimap<int64_t, DeviceMemory> free;
  int64_t in_use = 0, peak = 0, reserved = 0;
  bool kept = false;

  DeviceMemory take(int64_t& bytes) {
    // A block up to a quarter too large serves too: shapes shrink while an evaluation drops fooled
    // samples.
    const auto found = free.lower_bound(bytes);
    if (found != free.end() && found->first <= bytes + bytes / 4) {
      bytes = found->first;
      DeviceMemory memory = std::move(found->second);
      free.erase(found);
      return memory;
    }
    DeviceMemory memory = allocate(bytes);
    reserved += bytes;
    return memory;
  }
  DeviceMemory allocate(int64_t bytes) {
    if (!free.empty() && !kept) {
      try {
        return allocate_on(device, bytes, "a tensor");
      } catch (const OutOfMemory&) {  // what lies in the free lists may be enough
        reserved -= total_free();
        free.clear();
      }
    }
    return allocate_on(device, bytes, "a tensor");
  }
  int64_t total_free() const {
    int64_t total = 0;
    for (const auto& entry : free) total += entry.first;
    return total;
  }
};

namespace {

// Gives its memory back to the free lists, which it keeps alive.
template <class Lists>
class PooledBlock final : public Block {
 public:
  PooledBlock(std::shared_ptr<Lists> lists, DeviceMemory memory, int64_t bytes)
      : Block(memory.get(), bytes), lists_(std::move(lists)), memory_(std::move(memory)) {}
  ~PooledBlock() override {
    lists_->in_use -= bytes();
    lists_->free.emplace(bytes(), std::move(memory_));
  }

 private:
  std::shared_ptr<Lists> lists_;
  DeviceMemory memory_;
};

}  // namespace

Pool::Pool(Device device) : lists_(std::make_shared<FreeLists>(device)) {}
Pool::~Pool() = default;
Pool::Pool(Pool&&) noexcept = default;
Pool& Pool::operator=(Pool&&) noexcept = default;

Device Pool::device() const { return lists_->device; }

std::shared_ptr<Block> Pool::allocate(int64_t bytes) {
  require(bytes >= 0, "Pool: {} bytes were asked for", bytes);
  bytes = std::max<int64_t>(64, (bytes + 63) / 64 * 64);
  DeviceMemory memory = lists_->take(bytes);
  lists_->in_use += bytes;
  lists_->peak = std::max(lists_->peak, lists_->in_use);
  return std::make_shared<PooledBlock<FreeLists>>(lists_, std::move(memory), bytes);
}

void Pool::keep_blocks() { lists_->kept = true; }
int64_t Pool::bytes_in_use() const { return lists_->in_use; }
int64_t Pool::peak_bytes() const { return lists_->peak; }
int64_t Pool::bytes_reserved() const { return lists_->reserved; }
void Pool::reset_peak() { lists_->peak = lists_->in_use; }

}  // namespace ringfort
