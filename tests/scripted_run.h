// A training whose held-out robust accuracies a test decides, so that what follows from them
// depends on no network, seed or machine; it keeps the state of training at every moment of
// interest.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "adversarial/trainer.h"
#include "kernels/plans.h"
#include "tests/quarters.h"
#include "tests/temp_folder.h"
#include "tests/tensors.h"

namespace ringfort::test {

// Everything that training changes, as bytes.
struct TrainingState {
  std::vector<std::byte> weights, statistics;
  std::vector<std::vector<std::byte>> optimizer;

  explicit TrainingState(Trainer& trainer)
      : weights(testing::bytes_of(trainer.model().params().flat_master())),
        statistics(testing::bytes_of(trainer.model().params().flat_statistics())) {
    for (const NamedView& part : trainer.optimizer().state())
      optimizer.push_back(testing::bytes_of(part.view));
  }
  bool operator==(const TrainingState&) const = default;
};

// On the CPU. The recipe probes on fewer images than it holds out, by which a probe is told from an
// epoch's end.
class ScriptedRun : private TrainingObserver {
 public:
  // What the n-th probe and the n-th epoch are to measure; the last value is repeated.
  struct Script {
    std::vector<double> probes = {0.5}, epochs = {0.5};
  };
  struct Message {
    std::string sentence;
    TrainingState state;
  };

  ScriptedRun(const Recipe& recipe, const Dataset& data, Script script)
      : recipe_(recipe),
        script_(std::move(script)),
        trainer_(exec_, recipe, data,
                 [this, &data](Model& model, const AttackInput& images, int steps) {
                   CHECK(&model == &trainer_.model());
                   check_images(images, data);
                   return measured(images, steps);
                 }) {
    exec_.plans().force("direct");  // two runs must not differ by which algorithm was faster
    result_ = trainer_.run(folder_.path(), *this);
  }

  const TrainingResult& result() const { return result_; }
  const std::vector<TrainingState>& at_probe() const { return at_probe_; }
  const std::vector<TrainingState>& at_epoch() const { return at_epoch_; }  // when it was over
  const std::vector<Message>& messages() const { return messages_; }
  const std::vector<EpochRecord>& epochs() const { return epochs_; }
  // Sample numbers that each kind of measurement was made on.
  const std::vector<int64_t>& probed() const { return probed_; }
  const std::vector<int64_t>& validated() const { return validated_; }
  std::filesystem::path file(const std::string& name) const { return folder_ / name; }
  TrainingState now() { return TrainingState(trainer_); }
  Exec& exec() { return exec_; }

 private:
  // Pixels and labels are those of the samples they are said to be.
  static void check_images(const AttackInput& images, const Dataset& data) {
    const int64_t length = images.x_nat.shape().per_sample();
    for (int64_t n = 0; n < images.x_nat.shape().n; ++n) {
      const int64_t sample = images.samples.as<const int64_t>()[n];
      CHECK(images.labels.as<const int32_t>()[n] == data.labels[static_cast<size_t>(sample)]);
      const float* pixels = images.x_nat.as<const float>() + n * length;
      const std::span<const uint8_t> image = data.image(sample);
      CHECK(std::equal(image.begin(), image.end(), pixels, [](uint8_t byte, float pixel) {
        return pixel == Approx(static_cast<float>(byte) / 255);
      }));
    }
  }
  double measured(const AttackInput& images, int steps) {
    const int64_t count = images.x_nat.shape().n;
    const int64_t* first = images.samples.as<const int64_t>();
    const std::vector<int64_t> samples(first, first + count);
    const bool probe = count == recipe_.probe_samples;
    if (!probe) REQUIRE(count == recipe_.hold_out);
    CHECK(steps == (probe ? 10 : recipe_.val_attack_steps));
    (probe ? probed_ : validated_) = samples;
    if (probe) at_probe_.emplace_back(trainer_);
    const std::vector<double>& values = probe ? script_.probes : script_.epochs;
    const size_t turn = probe ? at_probe_.size() - 1 : at_epoch_.size();
    return values[std::min(turn, values.size() - 1)];
  }
  void on_epoch(const EpochRecord& record) override {
    at_epoch_.emplace_back(trainer_);
    epochs_.push_back(record);
  }
  void on_message(const std::string& sentence) override { messages_.push_back({sentence, now()}); }

  const Recipe recipe_;
  const Script script_;
  Exec exec_;
  TempFolder folder_;
  std::vector<TrainingState> at_probe_, at_epoch_;
  std::vector<Message> messages_;
  std::vector<EpochRecord> epochs_;
  std::vector<int64_t> probed_, validated_;
  Trainer trainer_;
  TrainingResult result_;
};

}  // namespace ringfort::test
