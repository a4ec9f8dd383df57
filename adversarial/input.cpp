#include "adversarial/input.h"

#include "engine/transfer.h"

namespace ringfort {

PadCropFlip training_augment(const Recipe& recipe, uint32_t epoch) {
  if (recipe.augment != "crop-flip") return {};
  return {recipe.crop_pad, true, {recipe.seed, Purpose::kAugment, epoch}};
}

AttackInput make_input(Exec& exec, Pool& pool, const Dataset& data, const Batch& batch,
                       const PadCropFlip& augment, uint32_t epoch) {
  const Shape shape{batch.size(), data.height, data.width, data.channels};
  AttackInput input;
  input.x_nat = Tensor(pool, shape, Dtype::kFloat32);
  input.labels = to_tensor<int32_t>(exec, pool, matrix_shape(shape.n, 1), batch.labels);
  input.samples = to_tensor<int64_t>(exec, pool, matrix_shape(shape.n, 1), batch.samples);
  input.epoch = epoch;
  const Tensor bytes = to_tensor<uint8_t>(exec, pool, shape, batch.pixels);
  pad_crop_flip(exec, input.x_nat, bytes, input.samples.as<int64_t>(), augment);
  return input;
}

AttackInput make_input(Exec& exec, Pool& pool, const Dataset& data,
                       std::span<const int64_t> samples) {
  Batch batch;
  gather_batch(data, samples, batch);
  return make_input(exec, pool, data, batch);
}

}  // namespace ringfort
