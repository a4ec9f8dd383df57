#include "engine/tensor.h"

#include "kernels/device_memory.h"

namespace ringfort {

Tensor zeros(Pool& pool, const Shape& shape, Dtype dtype) {
  Tensor tensor(pool, shape, dtype);
  clear_now(pool.device(), tensor);
  return tensor;
}

}  // namespace ringfort
