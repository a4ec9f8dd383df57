// That the time of a step counts for what the device does meanwhile.
#include <catch2/catch.hpp>
#include <cstring>
#include <set>

#include "adversarial/phases.h"
#include "adversarial/training_step.h"
#include "kernels/phase_clock.h"
#include "models/layers.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;

namespace {

// A linear network that tells whenever it is asked something.
class Telling final : public Model {
 public:
  explicit Telling(std::function<void(Wrt)> tell)
      : Model(LinearModel::spec_of(4, 1, 3), Dtype::kFloat32), tell_(std::move(tell)) {
    layer_ = LayerBuilder(params()).linear("fc", 16, 3);
    allocate();
  }

 private:
  Var body(Pass& p, Var x) override {
    tell_(p.options.wrt);
    return linear(p, flatten(p, std::move(x)), layer_, Activation::kNone, logits_dtype(p));
  }
  std::function<void(Wrt)> tell_;
  LinearParams layer_;
};

}  // namespace

TEST_CASE("each phase counts for what it is named after", "[step]") {
  Exec exec({}, 1);
  Pool pool;
  std::optional<TrainingStep> step;
  const auto read_clock = [&] {
    PhaseClock clock;
    const View view = step->state().back().view;
    REQUIRE(view.bytes() == static_cast<int64_t>(sizeof(clock)));
    std::memcpy(&clock, view.data, sizeof(clock));
    return clock;
  };
  const auto running = [&] { return read_clock().phase - 1; };
  std::set<std::pair<Wrt, int64_t>> seen;
  Telling model([&](Wrt wrt) { seen.insert({wrt, running()}); });
  initialize(exec, model.params(), 1);
  TrainingMethod method{pgd({.norm = Norm::kLinf, .eps = 0.1}, 2, 0.1)};
  method.weight_perturbation = 0.01;
  step.emplace(exec, model, method, OptimizerOptions{}, Dtype::kFloat32, 1);
  CHECK(running() == -1);
  step->begin_data();
  CHECK(running() == static_cast<int64_t>(Phase::kData));
  step->run(random_input(pool, {4, 4, 4, 1}, 3, 1), {{.lr = 0.1}, true});
  CHECK(running() == -1);
  const auto number = [](Phase phase) { return static_cast<int64_t>(phase); };
  CHECK(seen == std::set<std::pair<Wrt, int64_t>>{{Wrt::kInput, number(Phase::kAttack)},
                                                  {Wrt::kParams, number(Phase::kTraining)}});
  const PhaseClock ended = read_clock();
  for (const int64_t nanoseconds : ended.nanoseconds) CHECK(nanoseconds > 0);
  const StepTotals totals = step->take_totals();
  for (size_t i = 0; i < totals.seconds.size(); ++i)
    CHECK(totals.seconds.at(i) == Approx(1e-9 * static_cast<double>(ended.nanoseconds[i])));
}
