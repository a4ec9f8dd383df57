#include "bench/training_batch.h"

#include "bench/timing.h"

namespace ringfort::bench {

AttackInput make_batch(Exec& exec, Pool& pool, const ModelSpec& spec, int64_t count) {
  AttackInput batch;
  batch.x_nat = random_tensor(exec, pool, {count, spec.height, spec.image_width, spec.channels},
                              Dtype::kFloat32, Layout::kChannelsLast, 0, 1);
  batch.labels = cyclic_labels(exec, pool, count, spec.classes);
  batch.samples = sample_numbers(exec, pool, count);
  return batch;
}

}  // namespace ringfort::bench
