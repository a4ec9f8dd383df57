#include "kernels/loss.h"

#include "kernels/rows.h"

namespace ringfort {
namespace {

// What loss `name` asks of its views; then body(S{}) with the scalar of the logits. others: logits
// and gradients, of one dtype where they have data.
template <class Body>
void with_logits(const char* name, Exec& exec, const View& loss, const View& logits,
                 const View& labels, std::initializer_list<View> others, const Body& body) {
  const int64_t rows = logits.shape.n, classes = logits.shape.per_sample();
  require(labels.count() == rows && loss.count() == rows,
          "{}: {} labels and {} losses for {} samples", name, labels.count(), loss.count(), rows);
  if (exec.device().kind == DeviceKind::kCpu && !exec.planned())
    for (int64_t n = 0; n < rows; ++n) {
      const int32_t label = labels.as<const int32_t>()[n];
      require(label >= 0 && label < classes, "{}: sample {} has label {}, the model has {} classes",
              name, n, label, classes);
    }
  bool alike = loss.dtype == logits.dtype;
  for (const View& other : others)
    alike = alike && (other.data == nullptr ||
                      (other.dtype == logits.dtype && other.count() == logits.count()));
  require(alike, "{}: logits are {} {}, loss and gradient must be too", name,
          to_string(logits.dtype), to_string(logits.shape));
  if (logits.dtype == Dtype::kFloat64)
    body(double{});
  else if (logits.dtype == Dtype::kFloat32)
    body(float{});
  else
    fail("{}: logits must be float32 or float64, got {}", name, to_string(logits.dtype));
}

}  // namespace

void cross_entropy(Exec& exec, View loss, View dlogits, View prediction, View logits, View labels,
                   double weight, double smoothing) {
  with_logits("cross_entropy", exec, loss, logits, labels, {dlogits}, [&]<class S>(S) {
    const int64_t classes = logits.shape.per_sample();
    for_each_row(exec, logits.shape.n, classes * 16,
                 CrossEntropyRow<S>{logits.as<const S>(), labels.as<const int32_t>(), classes,
                                    static_cast<S>(weight), loss.as<S>(), dlogits.as<S>(),
                                    prediction.as<int32_t>(), static_cast<S>(smoothing)});
  });
}

void trades_loss(Exec& exec, View loss, View dlogits, View dlogits_adv, View prediction,
                 View logits, View logits_adv, View labels, const TradesWeights& weights) {
  with_logits(
      "trades_loss", exec, loss, logits, labels, {dlogits, dlogits_adv, logits_adv},
      [&]<class S>(S) {
        const int64_t classes = logits.shape.per_sample();
        for_each_row(
            exec, logits.shape.n, classes * 64,
            TradesRow<S>{logits.as<const S>(), logits_adv.as<const S>(), labels.as<const int32_t>(),
                         classes, static_cast<S>(weights.weight), static_cast<S>(weights.natural),
                         static_cast<S>(weights.beta), static_cast<S>(weights.smoothing),
                         loss.as<S>(), dlogits.as<S>(), dlogits_adv.as<S>(),
                         prediction.as<int32_t>()});
      });
}

}  // namespace ringfort
