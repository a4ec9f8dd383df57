#include "kernels/loss.h"

#include "kernels/reduce.h"
#include "kernels/rows.h"

namespace ringfort {

void cross_entropy(Exec& exec, View loss, View dlogits, View prediction, View logits, View labels,
                   double weight) {
  const int64_t rows = logits.shape.n, classes = logits.shape.per_sample();
  require(labels.count() == rows && loss.count() == rows,
          "cross_entropy: {} labels and {} losses for {} samples", labels.count(), loss.count(),
          rows);
  if (exec.device().kind == DeviceKind::kCpu && !exec.planned())
    for (int64_t n = 0; n < rows; ++n) {
      const int32_t label = labels.as<const int32_t>()[n];
      require(label >= 0 && label < classes,
              "cross_entropy: sample {} has label {}, the model has {} classes", n, label, classes);
    }
  const auto run = [&]<class S>(S) {
    require(loss.dtype == logits.dtype && (!dlogits.data || dlogits.dtype == logits.dtype),
            "cross_entropy: logits are {}, loss and gradient must be too", to_string(logits.dtype));
    for_each_row(exec, rows, classes * 16,
                 CrossEntropyRow<S>{logits.as<const S>(), labels.as<const int32_t>(), classes,
                                    static_cast<S>(weight), loss.as<S>(), dlogits.as<S>(),
                                    prediction.as<int32_t>()});
  };
  if (logits.dtype == Dtype::kFloat64)
    run(double{});
  else if (logits.dtype == Dtype::kFloat32)
    run(float{});
  else
    fail("cross_entropy: logits must be float32 or float64, got {}", to_string(logits.dtype));
}

void add_batch_totals(Exec& exec, View loss_sum, View hits, View loss, View prediction,
                      View labels) {
  const Shape column{loss.count(), 1, 1, 1};  // one channel, to be summed over the samples
  channel_reduce(exec, LossAndHit{}, {loss_sum, hits},
                 {reshaped(loss, column), reshaped(prediction, column), reshaped(labels, column)},
                 1.0f);
}

}  // namespace ringfort
