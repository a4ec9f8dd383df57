#include "adversarial/input.h"

#include "adversarial/attack_steps.h"
#include "engine/transfer.h"

namespace ringfort {

PadCropFlip training_augment(const Recipe& recipe, uint32_t epoch) {
  const bool crop = recipe.augment == "crop-flip";
  return {crop ? recipe.crop_pad : 0, crop, {recipe.seed, Purpose::kAugment, epoch}, recipe.cutout};
}

AttackInput make_input(Exec& exec, Pool& pool, const DeviceBatch& batch, const PadCropFlip& augment,
                       uint32_t epoch) {
  AttackInput input{Tensor(pool, batch.shape, Dtype::kFloat32), batch.labels, batch.samples, epoch};
  pad_crop_flip(exec, input.x_nat, batch.images, batch.samples.as<int64_t>(), augment, batch.order);
  return input;
}

AttackInput mixed_up(Exec& exec, Pool& pool, const AttackInput& input, double alpha,
                     uint64_t seed) {
  AttackInput mixed = input;
  mixed.x_nat = Tensor(pool, input.x_nat.shape(), Dtype::kFloat32);
  mixed.mixture = empty_mixture(pool, input.x_nat.shape().n);
  mix_up(exec, mixed.x_nat, mixed.mixture.views(), input.x_nat, input.labels, input.samples, alpha,
         {seed, Purpose::kMixup, input.epoch});
  return mixed;
}

AttackInput make_input(Exec& exec, Pool& pool, const Dataset& data,
                       std::span<const int64_t> samples, std::vector<BrokenImage>* broken) {
  BatchGatherer gatherer(data, {samples.begin(), samples.end()}, exec.threads());
  Batch batch;
  if (exec.planned())
    gatherer.gather_labels(samples, batch);
  else
    gatherer.gather(samples, {.size = data.height}, batch);
  if (broken != nullptr) *broken = batch.broken;
  const Tensor images(pool, {batch.size(), data.height, data.width, data.channels}, Dtype::kUint8);
  to_device(exec, images, batch.pixels.data());
  return make_input(exec, pool, on_device(exec, pool, batch, images, ImageOrder::kBatch));
}

}  // namespace ringfort
