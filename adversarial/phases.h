// What a step of training does, one after the other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ringfort {

enum class Phase : int64_t {
  kData,      // waiting for images, bringing them to the device, augmenting them
  kAttack,    // the inner attack
  kTraining,  // forward and backward passes by which the weights learn, with their perturbation
  kUpdate,    // of the weights and what is kept beside them
};
inline constexpr std::array kPhaseNames = {"data", "attack", "training", "update"};

using PhaseSeconds = std::array<double, kPhaseNames.size()>;  // in the order of Phase

}  // namespace ringfort
