// Feed: an epoch's batches where kernels read them. Where the data set fits, all of its bytes lie
// on the device and a batch is a list of sample numbers; otherwise, and where images are decoded
// from files, threads gather each batch, and its bytes are uploaded while the device works on the
// batch before.
#pragma once

#include <optional>

#include "engine/data/loader.h"
#include "engine/tensor.h"
#include "kernels/augment.h"
#include "kernels/upload.h"

namespace ringfort {

// Labelled images on the device. Pixels are bytes still: kernels/augment.h.
struct DeviceBatch {
  Shape shape;  // (N, H, W, C)
  View images;  // uint8: the batch's own, or the whole data set's, as `order` says
  ImageOrder order = ImageOrder::kBatch;
  Tensor samples;  // (N) int64, indices in the data set: the keys of all random numbers
  Tensor labels;   // (N) int32
};

// images: (M, H, W, C), on the device.
DeviceBatch on_device(Exec& exec, Pool& pool, const Batch& batch, const View& images,
                      ImageOrder order);

enum class Residency {
  kAuto,      // kResident on the CPU, and where the data set takes at most half of what is free
  kResident,  // on the device as a whole; not for images in files
  kStreamed,  // batch by batch
};

class Feed {
 public:
  // `data` must outlive the feed. Errors: as Loader's; no memory for the data set.
  Feed(Exec& exec, const Dataset& data, std::vector<int64_t> indices, LoaderOptions options,
       Residency residency = Residency::kAuto, Companions companions = {});

  // As Loader's.
  void start_epoch(uint32_t epoch, int64_t first = 0) { loader_.start_epoch(epoch, first); }
  // The epoch's next batch, or false after its last. Its images stay until the next call.
  bool next(Pool& pool, DeviceBatch& batch);

  bool resident() const { return images_.data != nullptr; }
  const Loader& loader() const { return loader_; }
  // Of the batch that next() gave last.
  const std::vector<BrokenImage>& broken() const { return batch_.broken; }
  // Device memory for images; none on the CPU, where they are read where the data set has them.
  int64_t bytes_reserved() const {
    return uploader_ ? uploader_->bytes_reserved() : memory_ ? images_.bytes() : 0;
  }

 private:
  Exec& exec_;
  const Dataset& data_;
  DeviceMemory memory_;
  View images_;  // the data set on the device; without data where it is streamed
  Loader loader_;
  std::optional<Uploader> uploader_;
  Batch batch_;
};

}  // namespace ringfort
