#include "kernels/loss.h"

#include "kernels/map.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

// What loss `name` asks of its views; then body(S{}, D{}) with the scalars of the logits and of the
// gradients. others: logits of the same dtype. gradients: of one dtype where they have data, the
// logits' or bfloat16.
template <class Body>
void with_logits(const char* name, Exec& exec, const View& loss, const View& logits,
                 const View& labels, const MixtureViews& mixture,
                 std::initializer_list<View> others, std::initializer_list<View> gradients,
                 const Body& body) {
  const int64_t rows = logits.shape.n, classes = logits.shape.per_sample();
  require(labels.count() == rows && loss.count() == rows,
          "{}: {} labels and {} losses for {} samples", name, labels.count(), loss.count(), rows);
  const bool mixed = mixture.labels.data != nullptr;
  require(!mixed || (mixture.labels.count() == rows && mixture.share.count() == rows),
          "{}: {} mixed labels and {} shares for {} samples", name, mixture.labels.count(),
          mixture.share.count(), rows);
  for (const View& each : {labels, mixture.labels}) {
    if (each.data == nullptr || exec.device().kind != DeviceKind::kCpu || exec.planned()) continue;
    for (int64_t n = 0; n < rows; ++n) {
      const int32_t label = each.as<const int32_t>()[n];
      require(label >= 0 && label < classes, "{}: sample {} has label {}, the model has {} classes",
              name, n, label, classes);
    }
  }
  bool alike = loss.dtype == logits.dtype, rounded = false;
  for (const View& other : others)
    alike = alike && other.dtype == logits.dtype && other.count() == logits.count();
  for (const View& gradient : gradients)
    rounded = rounded || (gradient.data != nullptr && gradient.dtype == Dtype::kBFloat16 &&
                          logits.dtype == Dtype::kFloat32);
  for (const View& gradient : gradients)
    alike = alike && (gradient.data == nullptr ||
                      (gradient.count() == logits.count() &&
                       gradient.dtype == (rounded ? Dtype::kBFloat16 : logits.dtype)));
  require(alike, "{}: logits are {} {}, loss and gradient must be too", name,
          to_string(logits.dtype), to_string(logits.shape));
  if (logits.dtype == Dtype::kFloat64)
    body(double{}, double{});
  else if (rounded)
    body(float{}, BFloat16{});
  else if (logits.dtype == Dtype::kFloat32)
    body(float{}, float{});
  else
    fail("{}: logits must be float32 or float64, got {}", name, to_string(logits.dtype));
}

template <class S>
Targets<S> targets_of(const View& labels, double smoothing, const MixtureViews& mixture) {
  return {labels.as<const int32_t>(), static_cast<S>(smoothing), mixture.labels.as<const int32_t>(),
          mixture.share.as<const float>()};
}

}  // namespace

void cross_entropy(Exec& exec, View loss, View dlogits, View prediction, View logits, View labels,
                   double weight, double smoothing, const MixtureViews& mixture) {
  with_logits("cross_entropy", exec, loss, logits, labels, mixture, {}, {dlogits},
              [&]<class S, class D>(S, D) {
                const int64_t classes = logits.shape.per_sample();
                for_each_row(exec, logits.shape.n, classes * 16,
                             CrossEntropyRow<S, D>{logits.as<const S>(),
                                                   targets_of<S>(labels, smoothing, mixture),
                                                   classes, static_cast<S>(weight), loss.as<S>(),
                                                   dlogits.as<D>(), prediction.as<int32_t>()});
              });
}

void add_weighted(Exec& exec, View total, View part, double weight) {
  map(exec, AddWeighted{weight}, {total}, {total, part});
}

void trades_loss(Exec& exec, View loss, View dlogits, View dlogits_adv, View prediction,
                 View logits, View logits_adv, View labels, const TradesWeights& weights,
                 const MixtureViews& mixture) {
  with_logits("trades_loss", exec, loss, logits, labels, mixture, {logits_adv},
              {dlogits, dlogits_adv}, [&]<class S, class D>(S, D) {
                const int64_t classes = logits.shape.per_sample();
                for_each_row(
                    exec, logits.shape.n, classes * 64,
                    TradesRow<S, D>{logits.as<const S>(), logits_adv.as<const S>(),
                                    targets_of<S>(labels, weights.smoothing, mixture), classes,
                                    static_cast<S>(weights.weight), static_cast<S>(weights.natural),
                                    static_cast<S>(weights.beta), loss.as<S>(), dlogits.as<D>(),
                                    dlogits_adv.as<D>(), prediction.as<int32_t>()});
              });
}

}  // namespace ringfort
