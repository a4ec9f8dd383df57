// Tensor: a view and a share of the memory it looks at. Copies share the elements.
#pragma once

#include <memory>
#include <utility>

#include "engine/memory.h"
#include "kernels/view.h"

namespace ringfort {

class Tensor {
 public:
  Tensor() = default;
  Tensor(Pool& pool, const Shape& shape, Dtype dtype, Layout layout = Layout::kChannelsLast)
      : block_(pool.allocate(bytes_for(dtype, shape.count()))),
        view_{block_->data(), dtype, shape, layout} {}

  explicit operator bool() const { return block_ != nullptr; }
  const View& view() const { return view_; }
  operator const View&() const { return view_; }  // NOLINT: a tensor is what its view is

  const Shape& shape() const { return view_.shape; }
  Dtype dtype() const { return view_.dtype; }
  Layout layout() const { return view_.layout; }
  template <class T>
  T* as() const {
    return view_.as<T>();
  }

  // No other tensor shares the elements, so they may be overwritten.
  bool is_sole_owner() const { return block_.use_count() == 1; }

  // The same elements as another shape, or a range of samples.
  Tensor reshaped(const Shape& shape) const { return looking_at(ringfort::reshaped(view_, shape)); }
  Tensor samples(int64_t first, int64_t count) const {
    return looking_at(view_.samples(first, count));
  }
  // Shares the memory and looks at `view`, a part of it.
  Tensor looking_at(const View& view) const {
    Tensor other = *this;
    other.view_ = view;
    return other;
  }

 private:
  std::shared_ptr<Block> block_;
  View view_;
};

// All bytes 0. For what is made once: it waits for the device.
Tensor zeros(Pool& pool, const Shape& shape, Dtype dtype);

}  // namespace ringfort
