// A batch for benches of training steps.
#pragma once

#include "adversarial/attack.h"

namespace ringfort::bench {

// Images of the model's size, uniform pixels, as the work does not depend on what is in them;
// labels 0, 1, 2, ... modulo its classes, samples 0, 1, 2, ...
AttackInput make_batch(Exec& exec, Pool& pool, const ModelSpec& spec, int64_t count);

}  // namespace ringfort::bench
