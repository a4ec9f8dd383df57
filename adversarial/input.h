// From a batch of a data set to what an attack takes: pixels, labels and sample numbers on the
// device. Training, its held-out images and evaluation come through here.
#pragma once

#include "adversarial/attack.h"
#include "adversarial/recipe.h"
#include "engine/data/feed.h"
#include "kernels/augment.h"

namespace ringfort {

// The recipe's augmentation of training images: other crops and flips in every epoch, the same for
// a seed.
PadCropFlip training_augment(const Recipe& recipe, uint32_t epoch);

// Images and labels mixed in pairs (kernels/mixup.h), by other shares in every epoch.
AttackInput mixed_up(Exec& exec, Pool& pool, const AttackInput& input, double alpha, uint64_t seed);

// augment: by default only bytes / 255.
AttackInput make_input(Exec& exec, Pool& pool, const DeviceBatch& batch,
                       const PadCropFlip& augment = {}, uint32_t epoch = 0);

// The given samples of the data set as they are, of images in files the centre. broken: where to
// put those that could not be decoded; their labels and sample numbers are those of the samples of
// `samples` that took their places.
AttackInput make_input(Exec& exec, Pool& pool, const Dataset& data,
                       std::span<const int64_t> samples,
                       std::vector<BrokenImage>* broken = nullptr);

}  // namespace ringfort
