#include "bench/training_batch.h"

#include "bench/timing.h"

namespace ringfort::bench {

AttackInput make_batch(Exec& exec, Pool& pool, int64_t count) {
  AttackInput batch;
  batch.x_nat =
      random_tensor(exec, pool, {count, 32, 32, 3}, Dtype::kFloat32, Layout::kChannelsLast, 0, 1);
  batch.labels = cyclic_labels(exec, pool, count, 10);
  batch.samples = sample_numbers(exec, pool, count);
  return batch;
}

}  // namespace ringfort::bench
