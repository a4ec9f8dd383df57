// The program from end to end on files in MNIST's format: what it trains, which weights it attacks
// on which images, what it writes, and with which exit code it ends.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <numeric>

#include "adversarial/input.h"
#include "engine/data/dataset.h"
#include "engine/files.h"
#include "kernels/philox.h"
#include "models/checkpoint.h"
#include "tests/idx_files.h"
#include "tests/program.h"
#include "tests/tensors.h"
#include "tools/evaluation_file.h"
#include "tools/run_folder.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

// A class is a bright band of rows in noise.
Bytes band_images(const Bytes& labels, uint64_t seed) {
  const RandomKey key{seed, Purpose::kTest, 0};
  Bytes pixels;
  for (size_t n = 0; n < labels.size(); ++n)
    for (uint32_t i = 0; i < kMnistImage; ++i) {
      const bool bright = i / 28 / 2 == labels[n] + 2u;
      pixels.push_back(static_cast<uint8_t>(key.word(n, i) % 60 + (bright ? 190 : 0)));
    }
  return pixels;
}

// Training and test images whose labels follow different laws, so that neither passes for the
// other, and a recipe that trains on them in seconds.
class Workshop {
 public:
  Workshop() {
    Bytes train(320), test(60);
    for (size_t i = 0; i < train.size(); ++i) train[i] = static_cast<uint8_t>(i * 7 % 10);
    constexpr std::array<uint8_t, 5> primes = {2, 3, 5, 7, 7};
    for (size_t i = 0; i < test.size(); ++i) test[i] = primes[(i + i / 7) % 5];
    test_labels.assign(test.begin(), test.end());
    write_idx(folder, "train", band_images(train, 1), train);
    write_idx(folder, "t10k", band_images(test, 2), test);
    write_text_atomic(folder / "r.toml", R"(
dataset = "mnist"
width = 4
eps = 0.1
epochs = 8
lr = 0.02
batch-size = 16
hold-out = 64
probe-every = 6
probe-samples = 32
val-attack-steps = 3
log-every = 5
device = "cpu"
threads = 2
)");
  }

  fs::path run() const { return folder / "run"; }
  Outcome train(const std::string& flags = "") const {
    return program("train " + (folder / "r.toml").string() + " --data-dir " +
                   folder.path().string() + " --output " + run().string() + " " + flags);
  }
  Outcome run_command(const std::string& arguments) const { return program(arguments); }
  Outcome evaluate(const fs::path& target, const std::string& flags = "") const {
    return program("evaluate " + target.string() + " --device cpu --threads 2 " + flags);
  }
  std::vector<int32_t> first_labels(size_t n) const {
    return {test_labels.begin(), test_labels.begin() + static_cast<std::ptrdiff_t>(n)};
  }
  // What the weights in a checkpoint say of the first n test images.
  std::vector<int32_t> predictions(const fs::path& checkpoint, size_t n) const {
    Exec exec;
    Pool pool;
    const LoadedModel loaded = load_checkpoint(exec, checkpoint);
    std::vector<int64_t> samples(n);
    std::iota(samples.begin(), samples.end(), 0);
    const Dataset test = load_dataset("mnist", folder.path(), Split::kTest);
    return predict(exec, pool, *loaded.model, make_input(exec, pool, test, samples).x_nat);
  }
  // A network of the checkpoint's kind that answers `answer` whatever it sees.
  void answer_always(const fs::path& checkpoint, size_t answer) const {
    Exec exec;
    const LoadedModel loaded = load_checkpoint(exec, checkpoint);
    ParamStore& params = loaded.model->params();
    for (const ParamId id : params.in_memory_order()) {
      const View view = params.master(id);
      if (params.segment(id).kind != ParamKind::kBias || view.count() != 10) continue;
      view.as<float>()[answer] = 1000;
    }
    save_checkpoint(checkpoint, *loaded.model, loaded.metadata);
  }

  TempFolder folder;
  std::vector<int32_t> test_labels;

 private:
  Outcome program(const std::string& arguments) const {
    // Plans timed in a test are no one else's.
    return run_program(arguments, "XDG_CACHE_HOME=" + (folder / "cache").string());
  }
};

void check_done(const Outcome& outcome) {
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 0);
}

template <class T>
double share(const std::vector<T>& values, T value = 1) {
  return static_cast<double>(std::count(values.begin(), values.end(), value)) /
         static_cast<double>(values.size());
}

}  // namespace

TEST_CASE("program: train, evaluate and report, from files to figures", "[program]") {
  const Workshop shop;
  const Outcome trained = shop.train();
  check_done(trained);
  CHECK_THAT(trained.output, Contains("epoch 8/8") && Contains("Best held-out robust accuracy"));
  for (const char* file :
       {kRecipeFile, kSummaryFile, kMetricsFile, kBestCheckpoint, kLastCheckpoint, kReportFile})
    CHECK(fs::exists(shop.run() / file));
  check_complaint(shop.train(), 1, "--overwrite");

  // The best checkpoint and the last can be told from each other by what they answer.
  shop.answer_always(shop.run() / kBestCheckpoint, 7);
  check_done(shop.evaluate(shop.run(), "--n 20"));
  const Evaluation e = read_evaluation(shop.run() / kEvaluationFile);
  CHECK(e.checkpoint == kBestCheckpoint);
  CHECK(e.dataset == "mnist");
  CHECK(e.data_dir == shop.folder.path().string());
  CHECK(e.labels == shop.first_labels(20));
  CHECK(e.clean_predictions == std::vector<int32_t>(20, 7));
  CHECK(e.clean_accuracy == share(e.labels, 7));
  CHECK(e.clean_accuracy > 0.3);
  CHECK(e.robust_accuracy == e.clean_accuracy);  // nothing moves it
  // PGD-50-10 with a quarter of the training's eps per step, on running statistics.
  CHECK(e.attack == "pgd");
  CHECK(e.norm == "Linf");
  CHECK(e.eps == 0.1);
  CHECK(e.alpha == Approx(0.025));
  CHECK(e.steps == 50);
  CHECK(e.restarts == 10);
  CHECK(e.seed == 0);
  CHECK(e.dtype == "float32");
  CHECK(e.attack_bn == "eval");
  const std::string page = read_text(shop.run() / kReportFile);
  CHECK_THAT(page, Contains("PGD-50-10") &&
                       Contains(fmt::format("{:.1f} %", 100 * e.robust_accuracy)) &&
                       Contains("data:image/png"));
}

TEST_CASE("program: evaluate does what its flags say, on the weights it is given", "[program]") {
  const Workshop shop;
  check_done(shop.train("--method standard --epochs 20"));
  const fs::path last = shop.run() / kLastCheckpoint;
  const auto evaluated = [&](const std::string& flags) {
    const fs::path json = shop.folder / "result.json";
    check_done(shop.evaluate(last, flags + " --json " + json.string()));
    return read_evaluation(json);
  };
  const Evaluation all = evaluated("--n 0 --attack-steps 1 --restarts 1");
  CHECK(all.labels == shop.test_labels);
  CHECK(all.clean_predictions == shop.predictions(last, 60));
  CHECK(all.clean_accuracy == share(all.clean_correct));
  CHECK(all.clean_accuracy > 0.5);  // it has learnt
  CHECK(all.robust_accuracy == share(all.robust_correct));

  const Evaluation e = evaluated(
      "--attack pgd --norm L2 --eps 1.5 --attack-alpha 0.4 --attack-steps 3 --restarts 2 --seed 9 "
      "--n 7 --batch-size 4 --attack-dtype bfloat16");
  CHECK(e.labels == shop.first_labels(7));
  CHECK(e.norm == "L2");
  CHECK(e.eps == 1.5);
  CHECK(e.alpha == 0.4);
  CHECK(e.steps == 3);
  CHECK(e.restarts == 2);
  CHECK(e.seed == 9);
  CHECK(e.dtype == "bfloat16");
  const Evaluation one_step = evaluated("--attack fgsm --n 5");
  CHECK(one_step.attack == "fgsm");
  CHECK(one_step.alpha == 0.1);
  CHECK(one_step.steps == 1);
  CHECK(one_step.restarts == 1);
  CHECK(evaluated("--attack fgsm-rs --n 5").alpha == Approx(0.125));
  CHECK_FALSE(fs::exists(shop.run() / kEvaluationFile));  // the run's own is not touched

  // Wider balls fool more: the attack is at work.
  CHECK(evaluated("--eps 1 --n 20 --attack-steps 5 --restarts 1").robust_accuracy < 0.2);
  CHECK(evaluated("--eps 0 --attack-alpha 0.1 --n 20 --restarts 1").robust_accuracy ==
        evaluated("--n 20 --attack fgsm --eps 0.001").clean_accuracy);
}

TEST_CASE("program: an evaluation replaces only one that says less", "[program]") {
  const Workshop shop;
  check_done(shop.train("--epochs 1"));
  const std::string settings = "--attack-steps 4 --restarts 2 --n 12 ";
  check_done(shop.evaluate(shop.run(), settings));
  const auto file = shop.run() / kEvaluationFile;
  const std::string before = read_text(file);
  for (const char* flags : {"--n 11", "--attack-steps 3", "--restarts 1", "--eps 0.2",
                            "--attack fgsm", "--norm L2 --eps 0.1"}) {
    INFO(flags);
    const std::string all =
        std::string(flags) == "--attack fgsm" ? std::string(flags) : settings + flags;
    check_complaint(shop.evaluate(shop.run(), all), 1, "--json FILE");
    CHECK(read_text(file) == before);
  }
  check_complaint(shop.evaluate(shop.run(), "--norm L2"), 1, "give --eps too");
  check_complaint(shop.evaluate(shop.run(), "--attack-alpha 0"), 1, "go nowhere");
  check_done(shop.evaluate(shop.run(), settings + "--n 13 --seed 4"));
  CHECK(read_evaluation(file).seed == 4);
  write_text_atomic(file, "{");  // broken: nothing to keep
  check_done(shop.evaluate(shop.run(), settings));

  // Without its recipe a run is what a bare checkpoint is.
  fs::remove(shop.run() / kRecipeFile);
  check_complaint(shop.evaluate(shop.run(), settings), 1, "--eps and --data-dir must be given");
  check_done(
      shop.evaluate(shop.run(), settings + "--eps 0.1 --data-dir " + shop.folder.path().string()));
}

TEST_CASE("program: a training that collapses ends with exit code 3", "[program][slow]") {
  const Workshop shop;
  // With steps this large the probe goes up and down; any fall of it counts.
  const Outcome outcome = shop.train("--method standard --lr 1 --momentum 0 --probe-every 1");
  check_done(outcome);  // standard training is not meant to be robust
  const Outcome collapsed = shop.train(
      "--overwrite --lr 1 --momentum 0 --sched constant --probe-every 1 --collapse-drop 1e-6");
  INFO(collapsed.output);
  CHECK(collapsed.exit_code == 3);
  CHECK_THAT(collapsed.output, Contains("training stops here"));
  CHECK(fs::exists(shop.run() / kBestCheckpoint));
  // The same command again does not take that for a good end.
  const Outcome again = shop.train(
      "--resume auto --lr 1 --momentum 0 --sched constant --probe-every 1 --collapse-drop 1e-6");
  CHECK(again.exit_code == 3);
  CHECK_THAT(again.output, Contains("ended with its collapse"));
}

TEST_CASE("program: weights from elsewhere are evaluated, and training starts from them",
          "[program]") {
  const Workshop shop;
  check_done(shop.train("--method standard --epochs 2"));
  const fs::path best = shop.run() / kBestCheckpoint, sent = shop.folder / "sent.safetensors",
                 foreign = shop.folder / "foreign.st", run = shop.folder / "imported";
  check_done(shop.run_command("export " + shop.run().string() + " --output " + sent.string()));
  save_safetensors(foreign, load_safetensors(sent).arrays, {});
  const std::string import = "import " + foreign.string() + " --model cnn_small --dataset mnist " +
                             "--mean 0.1307 --std 0.3081 --data-dir " + shop.folder.path().string();
  check_done(shop.run_command(import + " --eps 0.05 --output " + run.string()));
  check_done(shop.evaluate(run, "--n 20 --attack-steps 2 --restarts 1"));
  const Evaluation e = read_evaluation(run / kEvaluationFile);
  CHECK(e.clean_predictions == shop.predictions(best, 20));
  CHECK(e.eps == 0.05);
  CHECK(e.dataset == "mnist");
  CHECK_THAT(read_text(run / kReportFile), Contains("imported from " + foreign.string()));
  check_complaint(shop.run_command(import + " --output " + run.string()), 1, "already holds a run");
  CHECK_THAT(read_text(run / kRecipeFile), Contains("imported from") && !Contains("epochs"));
  check_done(shop.run_command("report " + run.string()));
  CHECK_THAT(read_text(run / kReportFile),
             Contains("weights imported from") && !Contains("trained by") && !Contains("fast-at"));
  check_complaint(shop.run_command("replay " + run.string() + " 1"), 1, "were imported from");
  check_complaint(shop.run_command("import " RINGFORT_TEST_DATA
                                   "/parity-cnn_small.safetensors --dataset mnist --data-dir " +
                                   shop.folder.path().string() + " --output " +
                                   (shop.folder / "other").string()),
                  1, "3 channels");

  // Steps too small to change a weight leave what training started from.
  const fs::path start = shop.folder / "start.safetensors";
  Exec exec;
  ModelSpec spec = load_checkpoint(exec, best).model->spec();
  spec.mean = {0.25f};
  const auto model = make_model(spec);
  initialize(exec, model->params(), 77);
  save_checkpoint(start, *model, {});
  const auto train = [&](const std::string& flags) {
    return shop.train("--overwrite --lr 1e-30 --max-steps 1 --init " + flags);
  };
  check_done(train(start.string()));
  const LoadedModel trained = load_checkpoint(exec, shop.run() / kLastCheckpoint);
  CHECK(trained.model->spec().mean == spec.mean);
  CHECK(testing::bytes_of(trained.model->params().flat_master()) ==
        testing::bytes_of(model->params().flat_master()));
  CHECK_THAT(read_text(shop.run() / kRecipeFile), Contains("init = \"" + start.string() + "\""));
  const Bytes before = slurp(shop.run() / kLastCheckpoint);
  check_complaint(train(start.string() + " --width 6"), 1,
                  "conv1.weight is (4, 1, 3, 3), not (6, ");
  check_complaint(train(start.string() + " --model mnist_net"), 1, "holds a 'cnn_small'");
  check_complaint(train(foreign.string()), 1, "ringfort import");
  check_complaint(train((shop.folder / "no").string()), 1, "/no'");
  CHECK(slurp(shop.run() / kLastCheckpoint) == before);
}
