// The whole engine on a CUDA device, the emulated or the real one, beside the CPU: attacks,
// training and evaluation give the same, the K-step attack is recorded once and replayed, a rerun
// gives the same bytes. On the emulated device host code that touches device memory is seen by the
// address sanitizer.
#include <catch2/catch.hpp>
#include <numeric>

#include "adversarial/evaluate.h"
#include "adversarial/input.h"
#include "adversarial/trainer.h"
#include "engine/transfer.h"
#include "kernels/plans.h"
#include "models/checkpoint.h"
#include "tests/quarters.h"
#include "tests/temp_folder.h"
#include "tests/test_device.h"
#include "tests/tiny_models.h"

namespace ringfort {
namespace {

using test::quarters;
using test::small_recipe;
using test::TempFolder;
using test::tiny_spec;

constexpr Device kDevices[] = {{DeviceKind::kCpu, 0}, {DeviceKind::kCuda, 0}};

// Winograd would round differently from the device's products.
void choose_direct(Exec& exec) {
  if (exec.device().kind == DeviceKind::kCpu) exec.plans().force("direct");
}

// A model with its data on one device, from the same seed on each.
struct Side {
  Exec exec;
  Pool pool;
  std::unique_ptr<Model> model;
  Dataset data = quarters(24, 3);

  // plans: a file that two sides share where they are to compute alike to the last bit.
  Side(Device device, const std::string& name, int width, const std::string& plans = "")
      : exec(device, 1, plans), pool(device) {
    choose_direct(exec);
    model = make_model(tiny_spec(name, width, 8, 3), {.device = device});
    initialize(exec, model->params(), 5);
  }
  AttackInput input(uint32_t epoch = 0) {
    AttackInput input = make_input(exec, pool, data, std::vector<int64_t>{3, 8, 1, 20, 14, 6});
    input.epoch = epoch;
    return input;
  }
  std::vector<float> master() { return to_vector<float>(exec, model->params().flat_master()); }
};

AttackOptions three_steps(AttackBn bn) {
  AttackOptions attack = pgd({}, 3, 2.0 / 255);
  attack.bn = bn;
  attack.seed = 4;
  return attack;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return largest;
}

// Share of pixels that differ by more than rounding: a sign that turned.
double share_moved(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  int64_t moved = 0;
  for (size_t i = 0; i < a.size(); ++i) moved += std::abs(a[i] - b[i]) > 1e-4f;
  return static_cast<double>(moved) / static_cast<double>(a.size());
}

}  // namespace

TEST_CASE("device: the training attack is recorded once and replays what plain launches give",
          "[engine]") {
  for (const AttackBn bn : {AttackBn::kEval, AttackBn::kTrain}) {
    Side cuda(kDevices[1], "preact_resnet18", 8);
    TrainingAttack attack(cuda.exec, cuda.pool, *cuda.model, three_steps(bn));
    Pool other(kDevices[1]);
    const auto plain = [&](uint32_t epoch) {  // a new attack's first run is no replay
      TrainingAttack fresh(cuda.exec, other, *cuda.model, three_steps(bn));
      return to_vector<float>(cuda.exec, fresh.run(cuda.input(epoch)).x_adv);
    };
    const auto before = cuda.master();
    for (const uint32_t epoch : {0u, 1u, 2u, 1u}) {
      const auto x_adv = to_vector<float>(cuda.exec, attack.run(cuda.input(epoch)).x_adv);
      CHECK(x_adv == plain(epoch));
    }
    // At least one kernel per convolution and direction: 20 each in forward and input gradient.
    CHECK(attack.kernels(cuda.input(0).x_nat.shape().n) >= 3 * 40);
    CHECK(plain(1) != plain(2));  // the recording reads the epoch when it runs
    CHECK(attack.weight_gradients() == 0);
    CHECK(cuda.master() == before);

    // Weights that change between replays are folded anew in the replay.
    std::vector<float> other_weights = before;
    for (float& w : other_weights) w *= 1.25f;
    to_device(cuda.exec, cuda.model->params().flat_master(), other_weights.data());
    cuda.model->params().master_changed(cuda.exec);
    const auto replayed = to_vector<float>(cuda.exec, attack.run(cuda.input(2)).x_adv);
    CHECK(replayed == plain(2));
  }
}

TEST_CASE("device: memory that runs out takes nothing that a recording writes to", "[engine]") {
  Side cuda(kDevices[1], "cnn_small", 8);
  Pool pool(kDevices[1]);
  TrainingAttack attack(cuda.exec, pool, *cuda.model, three_steps(AttackBn::kEval));
  const auto attacked = [&] { return to_vector<float>(cuda.exec, attack.run(cuda.input()).x_adv); };
  attacked();
  const auto before = attacked();  // recorded
  const int64_t reserved = pool.bytes_reserved();
  CHECK(pool.bytes_in_use() < reserved);
  CHECK_THROWS_AS(pool.allocate(int64_t{1} << 50), OutOfMemory);
  CHECK(pool.bytes_reserved() == reserved);
  CHECK(attacked() == before);
}

TEST_CASE("device: an attack finds what it finds on the CPU", "[engine]") {
  for (const char* name : {"cnn_small", "preact_resnet18"}) {
    std::vector<std::vector<float>> found;
    for (const Device device : kDevices) {
      Side side(device, name, 8);
      TrainingAttack attack(side.exec, side.pool, *side.model, three_steps(AttackBn::kEval));
      found.push_back(to_vector<float>(side.exec, attack.run(side.input(3)).x_adv));
    }
    INFO(name);
    CHECK(share_moved(found[0], found[1]) < 0.01);
  }
}

TEST_CASE("device: a training step moves the weights as on the CPU", "[engine]") {
  for (const char* name : {"cnn_small", "preact_resnet18"}) {
    std::vector<std::vector<float>> weights;
    std::vector<double> losses;
    for (const Device device : kDevices) {
      Side side(device, name, 8);
      TrainingStep step(side.exec, *side.model, {}, {}, Dtype::kFloat32);
      for (int i = 0; i < 2; ++i) {
        step.run(side.input(), {{.lr = 0.05}});
        losses.push_back(step.take_totals().mean_loss());
      }
      weights.push_back(side.master());
    }
    INFO(name);
    CHECK(losses[0] == Approx(losses[2]).epsilon(1e-5));
    CHECK(losses[1] == Approx(losses[3]).epsilon(1e-4));
    CHECK(largest_difference(weights[0], weights[1]) < 2e-4);
  }
}

TEST_CASE("device: a training step is recorded once and replays what plain launches give",
          "[engine]") {
  const TrainingMethod method{three_steps(AttackBn::kEval)};
  for (const bool attacked : {false, true}) {
    const TempFolder folder;
    const std::string plans = (folder / "plans.json").string();
    const auto step_of = [&](Side& side) {  // without momentum: a new step continues an old one
      return std::make_unique<TrainingStep>(side.exec, *side.model,
                                            attacked ? method : TrainingMethod{},
                                            OptimizerOptions{}, Dtype::kFloat32);
    };
    const auto statistics = [](Side& side) {
      return to_vector<float>(side.exec, side.model->params().flat_statistics());
    };
    const auto answers = [](Side& side) {  // by what is made of the weights anew
      return predict(side.exec, side.pool, *side.model, side.input().x_nat);
    };
    {  // measures all plans, for the two to find
      Side first(kDevices[1], "preact_resnet18", 8, plans);
      step_of(first)->run(first.input(0), {{.lr = 0.05, .momentum = 0}});
      answers(first);
      first.exec.plans().save();
    }
    Side replayed(kDevices[1], "preact_resnet18", 8, plans),
        plain(kDevices[1], "preact_resnet18", 8, plans);
    const auto step = step_of(replayed);
    for (const uint32_t epoch : {0u, 1u, 2u}) {
      const double lr = 0.05 / (1 + epoch);  // another one at every step
      step->run(replayed.input(epoch), {{.lr = lr, .momentum = 0}});
      step_of(plain)->run(plain.input(epoch),
                          {{.lr = lr, .momentum = 0}});  // a first run, which is no replay
      CHECK(replayed.master() == plain.master());
      CHECK(statistics(replayed) == statistics(plain));
      CHECK(answers(replayed) == answers(plain));
    }
    CHECK(step->training_kernels() >= 3 * 20);  // of each convolution at least three
  }
}

TEST_CASE("device: training, probe, checkpoints and evaluation run as on the CPU", "[engine]") {
  const Dataset data = quarters(80);
  Recipe recipe = small_recipe();
  recipe.hold_out = 16;
  recipe.probe_every = 3;
  recipe.probe_samples = 8;
  recipe.on_collapse = "restore";
  recipe.val_attack_steps = 2;
  std::vector<Evaluation> evaluations;
  for (const Device device : kDevices) {
    Exec exec(device, 1);
    choose_direct(exec);
    TempFolder folder;
    TrainingObserver silent;
    Trainer trainer(exec, recipe, data);
    CHECK(trainer.run(folder.path(), silent).steps == 8);
    // The file does not know where it was written.
    const LoadedModel loaded =
        load_checkpoint(exec, folder / "last.safetensors", {.device = device});
    Pool pool(device);
    EvaluateOptions options;
    options.attack = pgd({Norm::kLinf, 0.1}, 3, 0.05);
    options.attack.stop = StopRule::kOnSuccess;
    options.attack.restarts = 2;
    options.n = 24;
    options.batch_size = 8;
    evaluations.push_back(evaluate(exec, pool, *loaded.model, data, options));
  }
  CHECK(evaluations[0].clean_predictions == evaluations[1].clean_predictions);
  CHECK(evaluations[0].clean_accuracy == evaluations[1].clean_accuracy);
  CHECK(std::abs(evaluations[0].robust_accuracy - evaluations[1].robust_accuracy) < 0.09);
}

TEST_CASE("device: a training takes the memory that was planned for it", "[engine]") {
  const Dataset data = quarters(80, 3);
  Recipe recipe = small_recipe();
  recipe.model = "preact_resnet18";
  recipe.width = 8;
  recipe.epochs = 1;
  for (const Device device : kDevices) {
    Exec exec(device, 1);
    choose_direct(exec);
    TempFolder folder;
    TrainingObserver silent;
    const MemoryUse planned = plan_memory(recipe, data, device);
    Trainer trainer(exec, recipe, data);
    CHECK(trainer.run(folder.path(), silent).steps == 3);
    MemoryUse taken = trainer.memory();
    taken.evaluation = planned.evaluation;  // up to the weights: how many are attacked at a time
    CHECK((taken == planned));
  }
}

TEST_CASE("device: training again with the same seed gives the same bytes", "[engine]") {
  const Dataset data = quarters(80);
  Recipe recipe = small_recipe();
  recipe.hold_out = 16;
  recipe.probe_every = 0;
  recipe.val_attack_steps = 2;
  std::vector<test::Bytes> saved;
  const TempFolder plans;
  for (int run = 0; run < 3; ++run) {  // the first measures the plans
    Exec exec(kDevices[1], 1, (plans / "plans.json").string());
    TempFolder folder;
    TrainingObserver silent;
    Trainer(exec, recipe, data).run(folder.path(), silent);
    saved.push_back(test::slurp(folder / "last.safetensors"));
  }
  CHECK(saved[1] == saved[2]);
}

TEST_CASE("device: batches of a data set that lies there and of one that is uploaded are the CPU's",
          "[engine]") {
  const Dataset data = quarters(50, 3);
  std::vector<int64_t> indices(40);
  std::iota(indices.begin(), indices.end(), 7);
  std::vector<std::vector<float>> pixels;
  std::vector<std::vector<int64_t>> samples;
  std::vector<std::vector<int32_t>> labels;
  for (const Device device : kDevices)
    for (const Residency residency : {Residency::kResident, Residency::kStreamed}) {
      Exec exec(device, 1);
      Pool pool(device);
      Feed feed(exec, data, indices, {.batch_size = 12, .seed = 3}, residency);
      CHECK(feed.resident() == (residency == Residency::kResident));
      const auto join = [](auto& to, const auto& more) {
        to.insert(to.end(), more.begin(), more.end());
      };
      std::vector<AttackInput> inputs;  // all queued before any is looked at
      for (const uint32_t epoch : {0u, 1u}) {
        feed.start_epoch(epoch);
        DeviceBatch batch;
        while (feed.next(pool, batch))
          inputs.push_back(
              make_input(exec, pool, batch, {2, true, {5, Purpose::kAugment, epoch}}, epoch));
      }
      pixels.emplace_back(), samples.emplace_back(), labels.emplace_back();
      for (const AttackInput& input : inputs) {
        join(pixels.back(), to_vector<float>(exec, input.x_nat));
        join(samples.back(), to_vector<int64_t>(exec, input.samples));
        join(labels.back(), to_vector<int32_t>(exec, input.labels));
      }
    }
  CHECK(samples[0].size() == 80);
  for (size_t i = 0; i < samples[0].size(); ++i)
    CHECK(labels[0][i] == data.labels[static_cast<size_t>(samples[0][i])]);
  for (size_t side = 1; side < pixels.size(); ++side) {
    CHECK(pixels[side] == pixels[0]);
    CHECK(samples[side] == samples[0]);
    CHECK(labels[side] == labels[0]);
  }
}

TEST_CASE("device: a graph whose work waits for the host runs without a recording, and says so",
          "[engine]") {
  Exec exec(kDevices[1], 1);
  int calls = 0;
  Graph graph(exec, "impatient", [&] {
    ++calls;
    synchronize(exec);  // CUDA refuses to wait for what is only being recorded
  });
  graph.run({1, 1, 1, 1});
  graph.run({1, 1, 1, 1});
  CHECK_FALSE(graph.recorded());
  CHECK(calls == 3);  // the warm-up, the refused capture, the plain run
  graph.run({1, 1, 1, 1});
  CHECK(calls == 4);
}

}  // namespace ringfort
