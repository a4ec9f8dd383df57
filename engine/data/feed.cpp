#include "engine/data/feed.h"

#include "engine/transfer.h"

namespace ringfort {
namespace {

bool is_resident(const Exec& exec, const Dataset& data, Residency residency) {
  if (data.encoded) return false;
  if (residency != Residency::kAuto) return residency == Residency::kResident;
  if (exec.device().kind == DeviceKind::kCpu) return true;
  const std::optional<int64_t> free = free_memory(exec.device());
  return !free || static_cast<int64_t>(data.pixels.size()) <= *free / 2;
}

}  // namespace

DeviceBatch on_device(Exec& exec, Pool& pool, const Batch& batch, const View& images,
                      ImageOrder order) {
  DeviceBatch on_device{images.shape, images, order, {}, {}};
  on_device.shape.n = batch.size();
  on_device.samples = to_tensor<int64_t>(exec, pool, matrix_shape(batch.size(), 1), batch.samples);
  on_device.labels = to_tensor<int32_t>(exec, pool, matrix_shape(batch.size(), 1), batch.labels);
  return on_device;
}

Feed::Feed(Exec& exec, const Dataset& data, std::vector<int64_t> indices, LoaderOptions options,
           Residency residency, Companions companions)
    : exec_(exec),
      data_(data),
      loader_(
          data, std::move(indices),
          [&] {
            // A plan moves no pixels: none need to be decoded for it.
            options.pixels =
                !is_resident(exec, data, residency) && !(data.encoded && exec.planned());
            return options;
          }(),
          std::move(companions)) {
  if (options.pixels || data.encoded) {
    uploader_.emplace(exec, loader_.samples_per_batch() * data.image_bytes());
    return;
  }
  images_ = {const_cast<uint8_t*>(data.pixels.data()),
             Dtype::kUint8,
             {data.count, data.height, data.width, data.channels},
             Layout::kChannelsLast};
  if (exec.device().kind == DeviceKind::kCpu) return;
  memory_ = allocate_on(exec.device(), images_.bytes(), "a data set");
  images_.data = memory_.get();
  write_now(exec.device(), images_, data.pixels.data());
}

bool Feed::next(Pool& pool, DeviceBatch& batch) {
  if (!loader_.next(batch_)) return false;
  if (resident()) {
    batch = on_device(exec_, pool, batch_, images_, ImageOrder::kDataset);
    return true;
  }
  const void* images =
      uploader_->upload(batch_.pixels.data(), static_cast<int64_t>(batch_.pixels.size()));
  batch = on_device(exec_, pool, batch_,
                    {const_cast<void*>(images),
                     Dtype::kUint8,
                     {batch_.size(), data_.height, data_.width, data_.channels},
                     Layout::kChannelsLast},
                    ImageOrder::kBatch);
  return true;
}

}  // namespace ringfort
