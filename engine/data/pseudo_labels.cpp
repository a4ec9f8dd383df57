#include "engine/data/pseudo_labels.h"

#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "engine/safetensors.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

constexpr const char* kDatasetKey = "ringfort.pseudo.dataset";
constexpr const char* kClassesKey = "ringfort.pseudo.classes";

// Two sources of encoded images, one after the other.
class Joined final : public EncodedImages {
 public:
  Joined(std::shared_ptr<const EncodedImages> first, int64_t count,
         std::shared_ptr<const EncodedImages> second)
      : first_(std::move(first)), second_(std::move(second)), count_(count) {}
  std::string name(int64_t i) const override {
    return i < count_ ? first_->name(i) : second_->name(i - count_);
  }
  std::vector<uint8_t> read(int64_t i) const override {
    return i < count_ ? first_->read(i) : second_->read(i - count_);
  }

 private:
  std::shared_ptr<const EncodedImages> first_, second_;
  int64_t count_;  // of the first
};

template <class T>
std::vector<T> numbers(const SafetensorsFile& file, const char* name, const char* dtype) {
  const NamedArray& array = file.at(name);
  require(array.dtype == dtype && array.shape.size() == 1,
          "{}: '{}' is to be a vector of {}, and is {} of shape ({})", file.file, name, dtype,
          array.dtype, shape_text(array.shape));
  std::vector<T> values(static_cast<size_t>(array.shape[0]));
  if (!values.empty()) std::memcpy(values.data(), array.bytes.data(), array.bytes.size());
  return values;
}

void require_possible(const PseudoLabels& made, const std::string& file) {
  require(!made.labels.empty() && made.labels.size() == made.confidence.size(),
          "{}: {} labels and {} confidences; there must be one of each per image", file,
          made.labels.size(), made.confidence.size());
  for (size_t i = 0; i < made.labels.size(); ++i) {
    require(made.labels[i] >= 0 && made.labels[i] < made.classes,
            "{}: image {} has label {} of {} classes; labels count from 0", file, i, made.labels[i],
            made.classes);
    require(made.confidence[i] >= 0 && made.confidence[i] <= 1,
            "{}: the confidence in the label of image {} is {}; it must be from 0 to 1", file, i,
            made.confidence[i]);
  }
}

void require_alike(const Dataset& labelled, const Dataset& others, const PseudoLabels& made) {
  require(labelled.height == others.height && labelled.width == others.width &&
              labelled.channels == others.channels &&
              (labelled.encoded == nullptr) == (others.encoded == nullptr),
          "pseudo-dataset: the images of {} are {} x {} x {}{}, those of {} are {} x {} x {}{}; "
          "they must be alike to stand in one batch",
          others.name, others.height, others.width, others.channels,
          others.encoded ? " in files" : "", labelled.name, labelled.height, labelled.width,
          labelled.channels, labelled.encoded ? " in files" : "");
  require(made.classes == std::ssize(labelled.class_names),
          "pseudo-labels: they tell {} classes apart, and {} has {}; label the images by a model "
          "that was trained on {}",
          made.classes, labelled.name, labelled.class_names.size(), labelled.name);
  require(made.dataset == others.name && std::ssize(made.labels) == others.count,
          "pseudo-labels: they are for the {} images of a data set {}, and the pseudo-dataset {} "
          "has {}; label it anew by ringfort pseudo-label",
          made.labels.size(), made.dataset, others.name, others.count);
}

}  // namespace

void save_pseudo_labels(const std::filesystem::path& path, const PseudoLabels& made,
                        std::map<std::string, std::string> metadata) {
  require_possible(made, path.string());
  metadata[kDatasetKey] = made.dataset;
  metadata[kClassesKey] = std::to_string(made.classes);
  const std::vector<int64_t> shape = {std::ssize(made.labels)};
  const std::vector<NamedArray> arrays = {
      {"labels", "I32", shape, std::as_bytes(std::span(made.labels))},
      {"confidence", "F32", shape, std::as_bytes(std::span(made.confidence))}};
  save_safetensors(path, arrays, metadata);
}

PseudoLabels load_pseudo_labels(const std::filesystem::path& path) {
  const SafetensorsFile file = load_safetensors(path);
  const auto entry = [&](const char* key) {
    const auto found = file.metadata.find(key);
    require(found != file.metadata.end(),
            "{}: this file holds no pseudo-labels; make one by ringfort pseudo-label", file.file);
    return found->second;
  };
  PseudoLabels made;
  made.dataset = entry(kDatasetKey);
  const std::string classes = entry(kClassesKey);
  require(!classes.empty() && classes.size() < 10 &&
              classes.find_first_not_of("0123456789") == std::string::npos,
          "{}: '{}' is no number of classes", file.file, classes);
  made.classes = std::stoll(classes);
  made.labels = numbers<int32_t>(file, "labels", "I32");
  made.confidence = numbers<float>(file, "confidence", "F32");
  require_possible(made, file.file);
  return made;
}

Dataset with_pseudo_labels(Dataset labelled, Dataset others, const PseudoLabels& made,
                           double least_confidence) {
  require_alike(labelled, others, made);
  Dataset all = std::move(labelled);
  const int64_t first = all.count;
  if (all.encoded) all.encoded = std::make_shared<Joined>(all.encoded, first, others.encoded);
  all.pixels.insert(all.pixels.end(), others.pixels.begin(), others.pixels.end());
  all.labels.insert(all.labels.end(), made.labels.begin(), made.labels.end());
  all.count += others.count;
  all.pseudo_count = others.count;
  for (int64_t i = 0; i < others.count; ++i)
    if (static_cast<double>(made.confidence[static_cast<size_t>(i)]) >= least_confidence)
      all.pseudo_samples.push_back(first + i);
  require(!all.pseudo_samples.empty(),
          "pseudo-confidence: none of the {} labels made for {} is as sure as {}; lower it",
          others.count, others.name, least_confidence);
  return all;
}

}  // namespace ringfort
