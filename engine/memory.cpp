#include "engine/memory.h"

#include <algorithm>
#include <new>

namespace ringfort {
namespace {

constexpr std::align_val_t kAlignment{64};

struct AlignedDelete {
  void operator()(void* memory) const { ::operator delete(memory, kAlignment); }
};
using Memory = std::unique_ptr<void, AlignedDelete>;

}  // namespace

struct Pool::FreeLists {
  std::multimap<int64_t, Memory> free;
  int64_t in_use = 0, peak = 0, reserved = 0;

  Memory take(int64_t& bytes) {
    // A block up to a quarter too large serves too: shapes shrink while an evaluation drops fooled
    // samples.
    const auto found = free.lower_bound(bytes);
    if (found != free.end() && found->first <= bytes + bytes / 4) {
      bytes = found->first;
      Memory memory = std::move(found->second);
      free.erase(found);
      return memory;
    }
    void* memory = ::operator new(static_cast<size_t>(bytes), kAlignment, std::nothrow);
    if (memory == nullptr) {
      reserved -= std::min(reserved, total_free());
      free.clear();
      memory = ::operator new(static_cast<size_t>(bytes), kAlignment, std::nothrow);
    }
    require(memory != nullptr,
            "out of memory: {:.1f} MiB were asked for while {:.1f} MiB are in use; use a smaller "
            "--batch-size",
            static_cast<double>(bytes) / 1048576.0, static_cast<double>(in_use) / 1048576.0);
    reserved += bytes;
    return Memory(memory);
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
  PooledBlock(std::shared_ptr<Lists> lists, Memory memory, int64_t bytes)
      : Block(memory.get(), bytes), lists_(std::move(lists)), memory_(std::move(memory)) {}
  ~PooledBlock() override {
    lists_->in_use -= bytes();
    lists_->free.emplace(bytes(), std::move(memory_));
  }

 private:
  std::shared_ptr<Lists> lists_;
  Memory memory_;
};

}  // namespace

Pool::Pool() : lists_(std::make_shared<FreeLists>()) {}
Pool::~Pool() = default;

std::shared_ptr<Block> Pool::allocate(int64_t bytes) {
  require(bytes >= 0, "Pool: {} bytes were asked for", bytes);
  bytes = std::max<int64_t>(64, (bytes + 63) / 64 * 64);
  Memory memory = lists_->take(bytes);
  lists_->in_use += bytes;
  lists_->peak = std::max(lists_->peak, lists_->in_use);
  return std::make_shared<PooledBlock<FreeLists>>(lists_, std::move(memory), bytes);
}

int64_t Pool::bytes_in_use() const { return lists_->in_use; }
int64_t Pool::peak_bytes() const { return lists_->peak; }
int64_t Pool::bytes_reserved() const { return lists_->reserved; }
void Pool::reset_peak() { lists_->peak = lists_->in_use; }

}  // namespace ringfort
