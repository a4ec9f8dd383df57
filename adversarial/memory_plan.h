// How much device memory a training takes, found out before it starts: a trainer on a planned
// device (kernels/exec.h) goes through everything once that takes memory, with the code, the pools
// and the order of a real run, and computes nothing. The numbers are therefore exact for what is
// counted: all tensors. Not counted is what libraries take for themselves: oneDNN's scratch and
// reordered filters, cuDNN's workspaces, the CUDA context.
#pragma once

#include <optional>
#include <string>

#include "adversarial/recipe.h"
#include "engine/data/dataset.h"
#include "kernels/error.h"
#include "kernels/exec.h"

namespace ringfort {

// Bytes of device memory.
struct MemoryUse {
  int64_t weights = 0;   // parameters, gradient, optimizer, what is made of the weights
  int64_t attack = 0;    // of a training step: activations, images under attack
  int64_t training = 0;  // activations of the training pass
  int64_t evaluation =
      0;             // the batch, held-out images, attacks on them, a snapshot: the most at once
  int64_t data = 0;  // images of the training set that lie on the device

  int64_t total() const { return weights + attack + training + evaluation + data; }
  friend bool operator==(const MemoryUse&, const MemoryUse&) = default;
};

// What Trainer::run would take on `device`, which need not be there. Errors: as Trainer's.
MemoryUse plan_memory(const Recipe& recipe, const Dataset& data, Device device);

// The largest batch with which a training by the recipe takes at most `bytes`; 0: not even one
// image fits.
int64_t largest_batch(const Recipe& recipe, const Dataset& data, Device device, int64_t bytes);

// "memory: 1.3 GB planned (weights and optimizer 210 MB, ...) of 12.0 GB free; ...". free: as
// free_memory() says.
std::string describe(const MemoryUse& plan, std::optional<int64_t> free);

// Error unless `plan`, the recipe's, fits into what is free; the sentence names the
// largest batch that does.
void require_memory(const MemoryUse& plan, std::optional<int64_t> free, const Recipe& recipe,
                    const Dataset& data, Device device);

// What to say of memory that has run out in spite of a plan that fits, because libraries took more
// than was left: names the largest batch for the `bytes` that there have been for tensors.
std::string describe(const OutOfMemory& error, const Recipe& recipe, const Dataset& data,
                     Device device, int64_t bytes);

}  // namespace ringfort
