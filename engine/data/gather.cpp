#include "engine/data/gather.h"

#include <algorithm>

#include "engine/data/formats.h"
#include "kernels/error.h"

namespace ringfort {

std::string describe(std::span<const BrokenImage> broken) {
  constexpr size_t kShown = 5;
  std::string text =
      broken.size() == 1
          ? std::string("1 image could not be decoded and another took its place: ")
          : fmt::format("{} images could not be decoded and others took their place: ",
                        broken.size());
  for (size_t i = 0; i < std::min(broken.size(), kShown); ++i)
    text += (i > 0 ? "; " : "") + broken[i].reason;
  if (broken.size() > kShown) text += fmt::format("; and {} more", broken.size() - kShown);
  return text;
}

BatchGatherer::BatchGatherer(const Dataset& data, std::vector<int64_t> indices, int workers)
    : data_(data) {
  if (!data.encoded) return;
  indices_ = std::move(indices);
  std::sort(indices_.begin(), indices_.end());
  workers_.emplace(workers);
  pipelines_.resize(static_cast<size_t>(workers));
}

void BatchGatherer::gather_labels(std::span<const int64_t> samples, Batch& batch) const {
  batch.pixels.clear();
  batch.broken.clear();
  batch.samples.assign(samples.begin(), samples.end());
  batch.labels.resize(samples.size());
  for (size_t i = 0; i < samples.size(); ++i)
    batch.labels[i] = data_.labels[static_cast<size_t>(samples[i])];
}

void BatchGatherer::gather(std::span<const int64_t> samples, const ImageTransform& transform,
                           Batch& batch) {
  gather_labels(samples, batch);
  const auto image_bytes = static_cast<size_t>(data_.image_bytes());
  batch.pixels.resize(samples.size() * image_bytes);
  if (data_.encoded) return decode(batch, transform);
  for (size_t i = 0; i < samples.size(); ++i) {
    const std::span<const uint8_t> image = data_.image(samples[i]);
    std::copy(image.begin(), image.end(), batch.pixels.data() + i * image_bytes);
  }
}

void BatchGatherer::decode(Batch& batch, const ImageTransform& transform) {
  require(transform.size == data_.height && transform.size == data_.width,
          "data set {}: its images are {} x {}, {} were asked for", data_.name, data_.height,
          data_.width, transform.size);
  std::vector<std::string> reasons(batch.samples.size());
  const std::vector<int64_t> asked = batch.samples;
  workers_->run(batch.size(), [&](int64_t i, int worker) {
    const auto at = static_cast<size_t>(i);
    const int64_t sample =
        decode_intact(asked[at], transform, pipelines_[static_cast<size_t>(worker)],
                      batch.pixels.data() + i * data_.image_bytes(), reasons[at]);
    batch.samples[at] = sample;
    batch.labels[at] = data_.labels[static_cast<size_t>(sample)];
  });
  for (size_t i = 0; i < asked.size(); ++i)
    if (!reasons[i].empty()) batch.broken.push_back({asked[i], batch.samples[i], reasons[i]});
}

int64_t BatchGatherer::decode_intact(int64_t sample, const ImageTransform& transform,
                                     ImagePipeline& pipeline, uint8_t* out,
                                     std::string& reason) const {
  const auto first = std::lower_bound(indices_.begin(), indices_.end(), sample);
  require(first != indices_.end() && *first == sample,
          "data set {}: sample {} is not one of those to gather", data_.name, sample);
  auto at = first;
  do {
    try {
      const std::vector<uint8_t> bytes = data_.encoded->read(*at);
      pipeline.run(bytes, data_.encoded->name(*at), transform, *at, out);
      return *at;
    } catch (const Error& error) {
      if (reason.empty()) reason = printable(error.what());
    }
    if (++at == indices_.end()) at = indices_.begin();
  } while (at != first);
  fail("data set {}: none of its {} images can be decoded; the first tried: {}", data_.name,
       indices_.size(), reason);
}

}  // namespace ringfort
