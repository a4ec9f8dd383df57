// A batch of CIFAR's shape for benches of training steps.
#pragma once

#include "adversarial/attack.h"

namespace ringfort::bench {

// Uniform pixels (count, 32, 32, 3), labels 0 to 9 in turn, samples 0, 1, 2, ...
AttackInput make_batch(Exec& exec, Pool& pool, int64_t count);

}  // namespace ringfort::bench
