#include "adversarial/pseudo_label.h"

#include <cmath>
#include <numeric>

#include "adversarial/input.h"
#include "engine/transfer.h"

namespace ringfort {
namespace {

struct Answers {
  std::vector<int32_t> labels;
  std::vector<float> confidence;
};

Answers answers(Exec& exec, Pool& pool, Model& model, const AttackInput& batch, Norms norms) {
  PassOptions options;
  options.norms = norms;
  Pass p(exec, pool, model.params(), options);
  const Var logits = model.forward(p, p.input(batch.x_nat));
  // The loss of the answer itself is the logarithm of its probability.
  const Tensor any_label = zeros(pool, vector_shape(batch.x_nat.shape().n), Dtype::kInt32);
  const Tensor answer = cross_entropy(p, logits, any_label, 1).prediction;
  const Tensor loss = cross_entropy(p, logits, answer, 1).loss;
  Answers all{to_vector<int32_t>(exec, answer), to_vector<float>(exec, loss)};
  for (float& value : all.confidence) {
    require(std::isfinite(value), "the network's answers are not finite: its weights are broken");
    value = std::min(1.0f, std::exp(-value));
  }
  return all;
}

void require_images_of(const ModelSpec& spec, const Dataset& data) {
  require(spec.channels == data.channels && spec.height == data.height &&
              spec.image_width == data.width,
          "pseudo-label: the network takes images of {} x {} x {}, those of {} are {} x {} x {}",
          spec.height, spec.image_width, spec.channels, data.name, data.height, data.width,
          data.channels);
}

}  // namespace

PseudoLabels pseudo_label(Exec& exec, Pool& pool, Model& model, const Dataset& data,
                          const PseudoLabelOptions& options) {
  require_images_of(model.spec(), data);
  std::vector<int64_t> indices(static_cast<size_t>(data.count));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  Feed feed(exec, data, indices,
            {.batch_size = options.batch_size, .shuffle = false, .workers = exec.threads()});
  PseudoLabels made{data.name, model.spec().classes, {}, {}};
  std::vector<BrokenImage> broken;
  DeviceBatch batch;
  feed.start_epoch(0);
  while (feed.next(pool, batch)) {
    const Answers all = answers(exec, pool, model, make_input(exec, pool, batch), options.norms);
    made.labels.insert(made.labels.end(), all.labels.begin(), all.labels.end());
    made.confidence.insert(made.confidence.end(), all.confidence.begin(), all.confidence.end());
    broken.insert(broken.end(), feed.broken().begin(), feed.broken().end());
    if (options.progress) options.progress(std::ssize(made.labels));
  }
  for (const BrokenImage& image : broken) made.confidence[static_cast<size_t>(image.sample)] = 0;
  if (!broken.empty() && options.message) options.message(describe(broken));
  return made;
}

}  // namespace ringfort
