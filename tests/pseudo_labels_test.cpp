// Pseudo-labels: the file, the data set they make, the batches it gives, the model's answers, and
// the program from a labelling network to one trained on its labels.
#include "engine/data/pseudo_labels.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "adversarial/pseudo_label.h"
#include "engine/data/feed.h"
#include "engine/data/hold_out.h"
#include "engine/safetensors.h"
#include "engine/transfer.h"
#include "tests/idx_files.h"
#include "tests/program.h"
#include "tests/scripted_run.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

// 20 labelled images, and 12 others with wrong labels of their own.
Dataset labelled() { return quarters(20); }
Dataset others() {
  Dataset data = quarters(12);
  data.name = "others";
  data.labels.assign(12, 3);
  return data;
}

PseudoLabels made() {
  PseudoLabels labels{"others", 4, {}, {}};
  for (int i = 0; i < 12; ++i) {
    labels.labels.push_back(i % 4);
    labels.confidence.push_back(static_cast<float>(i) / 16);
  }
  return labels;
}

std::vector<int64_t> numbers(int64_t first, int64_t count) {
  std::vector<int64_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), first);
  return all;
}

std::string refusal(Dataset first, Dataset second, const PseudoLabels& labels, double least = 0) {
  return error_of([&] { with_pseudo_labels(std::move(first), std::move(second), labels, least); });
}

// Samples of the epoch's batches from `first` on.
std::vector<std::vector<int64_t>> batches(Loader& loader, uint32_t epoch, int64_t first = 0) {
  std::vector<std::vector<int64_t>> all;
  Batch batch;
  loader.start_epoch(epoch, first);
  while (loader.next(batch)) all.push_back(batch.samples);
  return all;
}

}  // namespace

TEST_CASE("pseudo-labels come back from their file, and no other file is taken for one",
          "[pseudo]") {
  const TempFolder folder;
  const auto file = folder / "p.safetensors";
  save_pseudo_labels(file, made(), {{"note", "n"}});
  const PseudoLabels read = load_pseudo_labels(file);
  CHECK(read.dataset == "others");
  CHECK(read.classes == 4);
  CHECK(read.labels == made().labels);
  CHECK(read.confidence == made().confidence);
  CHECK(load_safetensors(file).metadata.at("note") == "n");

  const auto unsaved = [&](auto&& spoil) {
    PseudoLabels wrong = made();
    spoil(wrong);
    return error_of([&] { save_pseudo_labels(folder / "wrong", wrong); });
  };
  CHECK_THAT(unsaved([](PseudoLabels& p) { p.labels[3] = 4; }), Contains("label 4 of 4 classes"));
  CHECK_THAT(unsaved([](PseudoLabels& p) { p.labels[3] = -1; }), Contains("image 3"));
  CHECK_THAT(unsaved([](PseudoLabels& p) { p.confidence[5] = NAN; }), Contains("image 5"));
  CHECK_THAT(unsaved([](PseudoLabels& p) { p.confidence[5] = 1.5f; }), Contains("1.5"));
  CHECK_THAT(unsaved([](PseudoLabels& p) { p.confidence.pop_back(); }), Contains("11 confidences"));

  save_safetensors(folder / "other.safetensors", {}, {});
  CHECK_THAT(error_of([&] { load_pseudo_labels(folder / "other.safetensors"); }),
             Contains("other.safetensors") && Contains("holds no pseudo-labels"));
  const std::vector<float> reals(12);
  const std::vector<NamedArray> arrays = {{"labels", "F32", {12}, std::as_bytes(std::span(reals))}};
  save_safetensors(folder / "reals.safetensors", arrays,
                   {{"ringfort.pseudo.dataset", "others"}, {"ringfort.pseudo.classes", "4"}});
  CHECK_THAT(error_of([&] { load_pseudo_labels(folder / "reals.safetensors"); }),
             Contains("vector of I32, and is F32"));
}

TEST_CASE("pseudo-labelled images stand behind the labelled ones", "[pseudo]") {
  const Dataset all = with_pseudo_labels(labelled(), others(), made());
  require_consistent(all);
  CHECK(all.name == "quarters");
  CHECK(all.count == 32);
  CHECK(all.pseudo_count == 12);
  CHECK(all.pseudo_samples == numbers(20, 12));
  for (int64_t i = 0; i < 32; ++i) {
    const bool own = i < 20;
    const auto at = static_cast<size_t>(own ? i : i - 20);
    CHECK(all.labels[static_cast<size_t>(i)] == (own ? labelled().labels[at] : made().labels[at]));
    const Dataset source = own ? labelled() : others();
    const auto image = all.image(i), expected = source.image(static_cast<int64_t>(at));
    CHECK(std::equal(image.begin(), image.end(), expected.begin(), expected.end()));
  }
  CHECK(with_pseudo_labels(labelled(), others(), made(), 0.5).pseudo_samples == numbers(28, 4));

  CHECK_THAT(refusal(labelled(), others(), made(), 0.9), Contains("as sure as 0.9"));
  Dataset larger = others();
  larger.height = 16;
  CHECK_THAT(refusal(labelled(), larger, made()),
             Contains("others are 16 x 8 x 1") && Contains("quarters are 8 x 8 x 1"));
  PseudoLabels labels = made();
  labels.classes = 5;
  CHECK_THAT(refusal(labelled(), others(), labels),
             Contains("5 classes apart, and quarters has 4"));
  labels = made();
  labels.dataset = "cifar10";
  CHECK_THAT(refusal(labelled(), others(), labels), Contains("a data set cifar10"));
  labels = made();
  labels.labels.pop_back();
  labels.confidence.pop_back();
  CHECK_THAT(refusal(labelled(), others(), labels), Contains("11 images"));
}

TEST_CASE("images in files are joined, too", "[pseudo]") {
  class Numbered final : public EncodedImages {
   public:
    explicit Numbered(std::string name) : name_(std::move(name)) {}
    std::string name(int64_t i) const override { return name_ + std::to_string(i); }
    std::vector<uint8_t> read(int64_t i) const override { return {uint8_t(name_[0]), uint8_t(i)}; }

   private:
    std::string name_;
  };
  const auto in_files = [](Dataset data, const char* name) {
    data.pixels.clear();
    data.encoded = std::make_shared<Numbered>(name);
    return data;
  };
  const Dataset all =
      with_pseudo_labels(in_files(labelled(), "a"), in_files(others(), "b"), made());
  CHECK(all.encoded->name(19) == "a19");
  CHECK(all.encoded->name(20) == "b0");
  CHECK(all.encoded->read(31) == std::vector<uint8_t>{'b', 11});
  CHECK_THAT(refusal(in_files(labelled(), "a"), others(), made()), Contains("in files"));
}

TEST_CASE("every batch has its number of pseudo-labelled images", "[pseudo]") {
  const Dataset all = with_pseudo_labels(labelled(), others(), made());
  const std::vector<int64_t> own = numbers(0, 20);
  const LoaderOptions options{.batch_size = 8, .seed = 5, .drop_last = true};
  const Companions pseudo{all.pseudo_samples, 5};
  Loader loader(all, own, options, pseudo);
  CHECK(loader.batches_per_epoch() == 6);  // of 3 labelled images each
  std::vector<int64_t> walked;
  for (const uint32_t epoch : {0u, 1u, 2u, 3u}) {
    const auto order = epoch_order(own, 5, epoch);
    const auto all_batches = batches(loader, epoch);
    REQUIRE(all_batches.size() == 6);
    for (size_t number = 0; number < 6; ++number) {
      const std::vector<int64_t>& batch = all_batches[number];
      REQUIRE(batch.size() == 8);
      CHECK(std::equal(batch.begin(), batch.begin() + 3, order.begin() + int64_t(3 * number)));
      walked.insert(walked.end(), batch.begin() + 3, batch.end());
    }
    // From the middle, and by a loader that saw nothing before.
    Loader later(all, own, options, pseudo);
    CHECK(batches(later, epoch, 4) ==
          std::vector<std::vector<int64_t>>(all_batches.begin() + 4, all_batches.end()));
  }
  // 120 in all: ten epochs of the twelve, none alike.
  std::set<std::vector<int64_t>> orders;
  for (auto at = walked.begin(); at != walked.end(); at += 12) {
    std::vector<int64_t> epoch(at, at + 12);
    orders.insert(epoch);
    std::sort(epoch.begin(), epoch.end());
    CHECK(epoch == all.pseudo_samples);
  }
  CHECK(orders.size() == 10);
}

TEST_CASE("ranks share the pseudo-labelled images of a batch", "[pseudo]") {
  const Dataset all = with_pseudo_labels(labelled(), others(), made());
  const std::vector<int64_t> own = numbers(0, 20);
  Loader alone(all, own, {.batch_size = 8, .seed = 5, .drop_last = true}, {all.pseudo_samples, 2});
  for (const uint32_t epoch : {0u, 3u}) {
    std::vector<std::vector<int64_t>> kinds(2);  // labelled, pseudo-labelled: as one rank has them
    for (const auto& batch : batches(alone, epoch))
      for (size_t i = 0; i < 8; ++i) kinds[i < 6 ? 0 : 1].push_back(batch[i]);
    std::vector<std::vector<std::vector<int64_t>>> ranks;
    for (int rank = 0; rank < 2; ++rank) {
      Loader part(all, own,
                  {.batch_size = 4, .seed = 5, .drop_last = true, .rank = rank, .ranks = 2},
                  {all.pseudo_samples, 1});
      ranks.push_back(batches(part, epoch));
    }
    std::vector<std::vector<int64_t>> together(2);
    for (size_t number = 0; number < ranks[0].size(); ++number)
      for (const auto& rank : ranks)
        for (size_t i = 0; i < 4; ++i) together[i < 3 ? 0 : 1].push_back(rank.at(number)[i]);
    CHECK(together == kinds);
  }
}

TEST_CASE("companions that cannot be are refused", "[pseudo]") {
  const Dataset all = with_pseudo_labels(labelled(), others(), made());
  const auto error = [&](const LoaderOptions& options, const Companions& pseudo) {
    return error_of([&] { const Loader broken(all, numbers(0, 20), options, pseudo); });
  };
  const LoaderOptions options{.batch_size = 8, .drop_last = true};
  CHECK_THAT(error(options, {all.pseudo_samples, 8}), Contains("8 companions"));
  CHECK_THAT(error(options, {{}, 2}), Contains("2 companions of 0"));
  CHECK_THAT(error({.batch_size = 8}, {all.pseudo_samples, 2}), Contains("companions"));
  CHECK_THAT(error(options, {{32}, 2}), Contains("samples 0 to 32"));
  CHECK_THAT(error({.batch_size = 30, .drop_last = true}, {all.pseudo_samples, 2}),
             Contains("do not fill one batch of 28"));
}

TEST_CASE("a model's labels are its answers, with their probability", "[pseudo]") {
  Exec exec({}, 2);
  Pool pool;
  LinearModel model(8, 1, 4);
  // Each class sums up its quarter.
  for (int64_t k = 0; k < 4; ++k) {
    for (int64_t i = 0; i < 64; ++i)
      model.weights(k)[i] = i / 32 * 2 + i % 8 / 4 == k ? 0.25f : 0.0f;
    model.bias()[k] = 0;
  }
  model.params().master_changed(exec);
  const Dataset data = others();
  for (const int64_t batch_size : {5, 250}) {
    const PseudoLabels labels = pseudo_label(exec, pool, model, data, {.batch_size = batch_size});
    CHECK(labels.dataset == "others");
    CHECK(labels.classes == 4);
    REQUIRE(labels.labels.size() == 12);
    for (int64_t n = 0; n < 12; ++n) {
      std::array<double, 4> logits{};
      for (int64_t i = 0; i < 64; ++i)
        logits.at(static_cast<size_t>(i / 32 * 2 + i % 8 / 4)) +=
            0.25 * data.image(n)[static_cast<size_t>(i)] / 255;
      double sum = 0;
      for (const double logit : logits) sum += std::exp(logit);
      const auto at = static_cast<size_t>(n);
      CHECK(labels.labels[at] == n % 4);  // the bright quarter
      CHECK(labels.confidence[at] ==
            Approx(std::exp(logits.at(static_cast<size_t>(n % 4))) / sum).epsilon(1e-5));
    }
  }
  CHECK_THAT(error_of([&] { pseudo_label(exec, pool, model, quarters(4, 3)); }),
             Contains("takes images of 8 x 8 x 1"));
}

TEST_CASE("training holds out labelled images only, and learns from the others", "[pseudo]") {
  const Recipe recipe = small_recipe();
  PseudoLabels labels{"others", 4, std::vector<int32_t>(60), std::vector<float>(60, 1.0f)};
  Dataset unlabelled = quarters(60);
  unlabelled.name = "others";
  const Dataset plain = quarters(32 + 48);
  const Dataset mixed = with_pseudo_labels(plain, unlabelled, labels);
  ScriptedRun with(recipe, mixed, {}), without(recipe, plain, {});
  CHECK(with.validated() == without.validated());
  CHECK(with.result().steps == 2 * (48 / 8));  // 8 of 16 are labelled
  for (int32_t& label : labels.labels) label = 1;
  ScriptedRun relabelled(recipe, with_pseudo_labels(plain, unlabelled, labels), {});
  CHECK_FALSE(relabelled.now() == with.now());
}

TEST_CASE("the program labels images and trains on them", "[pseudo][program]") {
  const TempFolder folder;
  Bytes images, classes;
  for (int n = 0; n < 80; ++n) {
    classes.push_back(uint8_t(n % 10));
    for (size_t i = 0; i < kMnistImage; ++i)
      images.push_back(uint8_t(i / 79 == size_t(n % 10) ? 255 : (i * 7 + size_t(n)) % 50));
  }
  write_idx(folder, "train", images, classes);
  write_idx(folder, "t10k", images, classes);
  const std::string at = folder.path().string();
  spit(folder / "r.toml", [&] {
    const std::string text =
        "dataset = \"mnist\"\nmodel = \"cnn_small\"\nwidth = 4\neps = 0.1\n"
        "epochs = 2\nbatch-size = 16\nhold-out = 16\nprobe-every = 0\n"
        "method = \"dat\"\nattack-steps = 2\nval-attack-steps = 2\n"
        "device = \"cpu\"\nthreads = 2\ndata-dir = \"" +
        at + "\"\n";
    return Bytes(text.begin(), text.end());
  }());
  const auto program = [&](const std::string& arguments) {
    return run_program(arguments, "XDG_CACHE_HOME=" + at + "/cache");
  };
  const std::string train = "train " + at + "/r.toml --output " + at + "/";
  REQUIRE(program(train + "first").exit_code == 0);
  const std::string label = "pseudo-label " + at + "/first --dataset fashion-mnist --data-dir " +
                            at + " --output " + at + "/p.safetensors";
  const Outcome done = program(label);
  INFO(done.output);
  REQUIRE(done.exit_code == 0);
  CHECK_THAT(done.output, Contains("80 images labelled"));
  check_complaint(program(label), 1, "is there already");
  check_complaint(program("pseudo-label " + at + "/first --dataset cifar --data-dir d --output e"),
                  2, "'cifar' is not one of");

  const std::string pseudo = " --pseudo-dataset fashion-mnist --pseudo-data-dir " + at +
                             " --pseudo-labels " + at + "/p.safetensors";
  const Outcome trained = program(train + "second" + pseudo + " --pseudo-share 0.75");
  INFO(trained.output);
  CHECK(trained.exit_code == 0);
  CHECK_THAT(trained.output, Contains("Trained 32 steps"));  // 64 labelled images, 4 in a batch
  CHECK(program("replay " + at + "/second 3").exit_code == 0);
  check_complaint(program(train + "third" + pseudo + " --pseudo-confidence 1"), 1,
                  "none of the 80 labels");
  check_complaint(program(train + "third" + pseudo + " --pseudo-share 0.01"), 1, "of both kinds");
  check_complaint(program(train + "third --pseudo-dataset mnist"), 1, "all three or none");
  check_complaint(program(train + "third" + pseudo + " --pseudo-dataset mnist"), 1,
                  "for the 80 images of a data set fashion-mnist");
}
