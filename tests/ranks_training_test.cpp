// Trainings of several ranks: the weights that one rank would have, the same bits on all of them,
// states that lose nothing, and no word between ranks during an attack.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "adversarial/state_files.h"
#include "adversarial/trainer.h"
#include "distributed/thread_transport.h"
#include "kernels/plans.h"
#include "tests/quarters.h"
#include "tests/temp_folder.h"
#include "tests/tensors.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

struct RankEnd {
  testing::Vector weights, statistics;
  std::vector<std::byte> weight_bytes;
  int64_t collectives = 0, steps = 0;
  std::vector<double> losses, accuracies;
  std::vector<std::string> messages;
  bool interrupted = false;
};

class Listener : public TrainingObserver {
 public:
  Listener(RankEnd& end, int64_t stop) : end_(end), left_(stop) {}
  void on_step(const StepRecord& record) override { end_.losses.push_back(record.loss); }
  void on_epoch(const EpochRecord& record) override {
    if (record.robust_accuracy) end_.accuracies.push_back(*record.robust_accuracy);
  }
  void on_message(const std::string& sentence) override { end_.messages.push_back(sentence); }
  bool stop_requested() override { return left_ > 0 && --left_ == 0; }

 private:
  RankEnd& end_;
  int64_t left_;
};

struct Run {
  int ranks = 1;
  int64_t stop = 0;                 // the last rank asks to stop at its n-th step; 0: never
  std::filesystem::path from = {};  // state to go on from
};

std::vector<RankEnd> train(const Recipe& recipe, const std::filesystem::path& folder,
                           const Run& run) {
  std::vector<RankEnd> ends(static_cast<size_t>(run.ranks));
  const Dataset data = quarters(32 + 6 * 16);
  run_ranks(run.ranks, [&](std::unique_ptr<Transport> transport) {
    Comm comm(std::move(transport));
    Exec exec({}, 1);
    exec.plans().force("direct");
    Trainer trainer(exec, recipe, data, {}, run.ranks > 1 ? &comm : nullptr);
    if (!run.from.empty()) trainer.resume(run.from);
    RankEnd& end = ends[static_cast<size_t>(comm.rank())];
    Listener listener(end, comm.rank() + 1 == run.ranks ? run.stop : 0);
    const TrainingResult result = trainer.run(folder, listener);
    end.weights = testing::values_of(trainer.model().params().flat_master());
    end.statistics = testing::values_of(trainer.model().params().flat_statistics());
    end.weight_bytes = testing::bytes_of(trainer.model().params().flat_master());
    end.collectives = comm.traffic().collectives;
    end.steps = result.steps;
    end.interrupted = result.interrupted;
  });
  return ends;
}

std::vector<RankEnd> train(const Recipe& recipe, int ranks) {
  const TempFolder folder;
  return train(recipe, folder.path(), {ranks});
}

Recipe recipe_of(const char* method) {
  Recipe recipe = small_recipe();
  recipe.method = method;
  recipe.epochs = 4;
  recipe.max_steps = 20;
  recipe.probe_every = 0;
  recipe.log_every = 5;
  recipe.save_every = 0;
  recipe.attack_steps = 2;
  return recipe;
}

}  // namespace

TEST_CASE("ranks: weights are those of one rank with all the images", "[ranks]") {
  Recipe recipe = recipe_of("dat");
  SECTION("DAT") {}
  SECTION("DAT with norms over all ranks") {
    recipe.model = "preact_resnet18";
    recipe.norm_statistics = "joint";
    recipe.lr = 0.01;  // with larger steps, a ReLU that rounding turns shows in all that follows
  }
  SECTION("DAT as in its source: LAMB, every tensor with a trust ratio") {
    recipe.opt = "lamb";
    recipe.bias_correction = false;
    recipe.trust_all = true;
    recipe.trust_clip = 10;
    recipe.lr = 0.01;
  }
  SECTION("DAT in micro-batches, a bucket for every few parameters") {
    recipe.micro_batches = 2;
    recipe.bucket_mb = 0.01;
  }
  SECTION("PGD-AT with weight perturbation and an average, around a ring") {
    recipe.method = "pgd-at";
    recipe.awp_gamma = 0.01;
    recipe.ema_decay = 0.9;
    recipe.exchange = "ring";
  }
  const RankEnd one = train(recipe, 1)[0];
  for (const int ranks : {2, 4}) {
    CAPTURE(ranks);
    const std::vector<RankEnd> several = train(recipe, ranks);
    for (const RankEnd& end : several) {
      CHECK(end.weight_bytes == several[0].weight_bytes);
      CHECK(testing::relative_error(end.weights, one.weights) < 1e-5);
      CHECK(testing::relative_error(end.statistics, one.statistics) < 1e-5);
    }
    REQUIRE(several[0].losses.size() == one.losses.size());
    for (size_t i = 0; i < one.losses.size(); ++i)
      CHECK(several[0].losses[i] == Approx(one.losses[i]).epsilon(1e-5));
    CHECK(several[0].accuracies == one.accuracies);
  }
}

TEST_CASE("ranks: every compressor trains and all ranks stay alike", "[ranks][slow]") {
  for (const char* name : {"fp16", "bf16", "qsgd", "natural", "natural-dithering", "ef-sign",
                           "terngrad", "top-k", "random-k", "top-k+natural", "power-sgd"}) {
    Recipe recipe = recipe_of("dat");
    recipe.compressor = name;
    recipe.compressor_share = 0.1;
    CAPTURE(name);
    const std::vector<RankEnd> ends = train(recipe, 3 - 1);
    for (const RankEnd& end : ends) CHECK(end.weight_bytes == ends[0].weight_bytes);
    CHECK(ends[0].losses.back() < ends[0].losses.front());
    CHECK_THAT(ends[0].messages.front(), Contains(name));
  }
}

TEST_CASE("ranks: every field of the exchange reaches it", "[ranks][slow]") {
  struct Change {
    const char* compressor;
    std::function<void(Recipe&)> apply;
  };
  const std::vector<Change> changes = {{"none", [](Recipe& r) { r.compressor = "natural"; }},
                                       {"qsgd", [](Recipe& r) { r.compressor_bits = 4; }},
                                       {"qsgd", [](Recipe& r) { r.compressor_bucket = 64; }},
                                       {"qsgd", [](Recipe& r) { r.compressor_norm = "l2"; }},
                                       {"top-k", [](Recipe& r) { r.compressor_share = 0.5; }},
                                       {"power-sgd", [](Recipe& r) { r.compressor_rank = 1; }},
                                       {"qsgd", [](Recipe& r) { r.error_feedback = "true"; }},
                                       {"qsgd", [](Recipe& r) { r.exchange = "sra"; }},
                                       {"qsgd", [](Recipe& r) { r.seed = 4; }},
                                       {"none", [](Recipe& r) { r.norm_statistics = "joint"; }}};
  for (size_t i = 0; i < changes.size(); ++i) {
    CAPTURE(i);
    Recipe recipe = recipe_of("dat");
    recipe.model = "preact_resnet18";
    recipe.max_steps = 4;
    recipe.compressor = changes[i].compressor;
    const auto before = train(recipe, 2)[0].weight_bytes;
    CHECK(train(recipe, 2)[0].weight_bytes == before);
    changes[i].apply(recipe);
    CHECK(train(recipe, 2)[0].weight_bytes != before);
  }
}

TEST_CASE("ranks: a gradient that is not finite on one rank is skipped by all", "[ranks]") {
  for (const char* compressor : {"none", "qsgd", "natural", "top-k", "ef-sign", "sign-majority"}) {
    CAPTURE(compressor);
    Recipe recipe = recipe_of("dat");
    recipe.max_steps = 4;
    recipe.hold_out = 0;
    recipe.lr = 1e30;  // the second step computes with weights that are no numbers
    recipe.max_skipped = 100;
    recipe.compressor = compressor;
    const std::vector<RankEnd> ends = train(recipe, 2);
    for (const RankEnd& end : ends) CHECK(end.weight_bytes == ends[0].weight_bytes);
    CHECK_THAT(ends[0].messages.at(1), Contains("not finite"));
  }
}

TEST_CASE("ranks: error feedback under an adaptive optimizer is told of", "[ranks]") {
  Recipe recipe = recipe_of("dat");
  recipe.max_steps = 2;
  recipe.compressor = "top-k";
  const auto warned = [&](const char* optimizer) {
    recipe.opt = optimizer;
    const std::vector<std::string> messages = train(recipe, 2)[0].messages;
    return std::any_of(messages.begin(), messages.end(), [](const std::string& message) {
      return message.find("is not sound") != std::string::npos;
    });
  };
  CHECK(warned("adam"));
  CHECK_FALSE(warned("sgd"));
}

TEST_CASE("ranks: an attack says nothing to others", "[ranks]") {
  Recipe recipe = recipe_of("dat");
  recipe.attack_steps = 1;
  const int64_t few = train(recipe, 2)[0].collectives;
  recipe.attack_steps = 7;
  CHECK(train(recipe, 2)[0].collectives == few);
  // However many parts a batch is cut into, gradients are exchanged once.
  recipe.micro_batches = 4;
  CHECK(train(recipe, 2)[0].collectives == few);
}

TEST_CASE("ranks: a training resumed by as many ranks has the bytes of one never stopped",
          "[ranks][slow]") {
  Recipe recipe = recipe_of("dat");
  recipe.model = "preact_resnet18";  // of each rank: its running statistics
  recipe.compressor_share = 0.1;
  SECTION("what is left out of gradients") { recipe.compressor = "top-k"; }
  SECTION("factors of low rank") { recipe.compressor = "power-sgd"; }
  SECTION("around a ring") {
    recipe.compressor = "ef-sign";
    recipe.exchange = "ring";
  }
  const TempFolder whole, cut;
  const std::vector<RankEnd> expected = train(recipe, whole.path(), {2});
  for (const int64_t stop : {1, 9}) {
    const std::vector<RankEnd> stopped = train(recipe, cut.path(), {2, stop});
    for (const RankEnd& end : stopped) {
      CHECK(end.interrupted);  // all of them, although one alone has asked
      CHECK(end.steps == stop);
    }
    const std::vector<RankEnd> resumed =
        train(recipe, cut.path(), {2, 0, state_path(cut.path(), stop)});
    for (size_t rank = 0; rank < 2; ++rank) {
      CHECK(resumed[rank].weight_bytes == expected[rank].weight_bytes);
      CHECK(resumed[rank].statistics == expected[rank].statistics);
    }
  }
}

TEST_CASE("ranks: another number of ranks takes a training up and says what becomes of states",
          "[ranks]") {
  Recipe recipe = recipe_of("dat");
  const TempFolder folder;
  const RankEnd whole = train(recipe, 1)[0];
  for (const int ranks : {1, 4}) {
    train(recipe, folder.path(), {2, 8});
    const std::vector<RankEnd> resumed =
        train(recipe, folder.path(), {ranks, 0, state_path(folder.path(), 8)});
    CHECK(testing::relative_error(resumed[0].weights, whole.weights) < 1e-5);
    CHECK_THAT(resumed[0].messages.front(), Contains("the state is of 2 ranks"));
  }
  SECTION("what was left out of gradients is shared out or dropped") {
    const TempFolder kept;
    recipe.compressor = "top-k";
    for (const int ranks : {1, 4}) {
      train(recipe, kept.path(), {2, 8});
      const std::vector<RankEnd> resumed =
          train(recipe, kept.path(), {ranks, 0, state_path(kept.path(), 8)});
      CHECK_THAT(resumed[0].messages.front(), Contains(ranks == 1 ? "is dropped" : "and so is"));
      for (const RankEnd& end : resumed) CHECK(end.weight_bytes == resumed[0].weight_bytes);
    }
  }
}

TEST_CASE("ranks: ranks that begin with different weights are told apart", "[ranks]") {
  std::vector<std::string> said(2);
  const Dataset data = quarters(32 + 6 * 16);
  const TempFolder folder;
  run_ranks(2, [&](std::unique_ptr<Transport> transport) {
    Comm comm(std::move(transport));
    Exec exec({}, 1);
    Recipe recipe = recipe_of("dat");
    recipe.seed = static_cast<uint64_t>(comm.rank());
    Trainer trainer(exec, recipe, data, {}, &comm);
    RankEnd end;
    Listener listener(end, 0);
    try {
      trainer.run(folder.path(), listener);
    } catch (const CommError& error) {
      said[static_cast<size_t>(comm.rank())] = error.what();
    }
  });
  for (const std::string& sentence : said) CHECK_THAT(sentence, Contains("with weights"));
}

TEST_CASE("ranks: a batch that cannot be shared out is refused", "[ranks]") {
  CHECK_THROWS_WITH(train(recipe_of("dat"), 3),
                    Contains("among 3 ranks") && Contains("--batch-per-rank"));
}
