// Batches of a data set's samples: copied from memory, or decoded by several threads.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/data/dataset.h"
#include "engine/data/image_transform.h"
#include "engine/data/workers.h"

namespace ringfort {

// An image that cannot be decoded, and the sample that stands in for it.
struct BrokenImage {
  int64_t sample = 0, replaced_by = 0;
  std::string reason;  // a sentence that names the image
  friend bool operator==(const BrokenImage&, const BrokenImage&) = default;
};

struct Batch {
  std::vector<uint8_t> pixels;      // (N, H, W, C)
  std::vector<int32_t> labels;      // (N)
  std::vector<int64_t> samples;     // (N), indices in the data set: the keys of all random numbers
  std::vector<BrokenImage> broken;  // as they were asked for
  int64_t size() const { return static_cast<int64_t>(samples.size()); }
};

// "2 images could not be decoded and others took their place: image 'a.jpg' is ...; ..." with a few
// of the reasons.
std::string describe(std::span<const BrokenImage> broken);

class BatchGatherer {
 public:
  // Only samples of `indices`, which must be in [0, data.count), stand in for broken images. `data`
  // must outlive the gatherer. workers: threads that decode, the caller's included.
  BatchGatherer(const Dataset& data, std::vector<int64_t> indices, int workers = 1);

  // Fills `batch` with the given samples of `data`, in that order. A batch is a function of its
  // arguments, whatever the number of workers. Of images that have to be decoded a broken one is
  // replaced, with its label and sample number, by the next sample of `indices`, in the order of
  // their numbers and around the end, that is intact. Error: none is.
  void gather(std::span<const int64_t> samples, const ImageTransform& transform, Batch& batch);

  // The same without pixels, for who has the images already or needs none. Nothing is decoded.
  void gather_labels(std::span<const int64_t> samples, Batch& batch) const;

 private:
  void decode(Batch& batch, const ImageTransform& transform);
  // The sample that was decoded in the end.
  int64_t decode_intact(int64_t sample, const ImageTransform& transform, ImagePipeline& pipeline,
                        uint8_t* out, std::string& reason) const;

  const Dataset& data_;
  std::vector<int64_t> indices_;  // ascending; of data that is decoded
  std::optional<Workers> workers_;
  std::vector<ImagePipeline> pipelines_;  // one per worker
};

}  // namespace ringfort
