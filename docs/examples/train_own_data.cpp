// Trains a robust classifier on images of one's own and measures how robust it is.
//   train_own_data RUN_FOLDER
#include <fmt/format.h>

#include <filesystem>

#include "adversarial/evaluate.h"
#include "adversarial/trainer.h"
#include "bars.h"
#include "models/checkpoint.h"

using namespace ringfort;

// What a training tells while it runs; a program picks what it wants to hear.
class Printer : public TrainingObserver {
  void on_start(const std::string& header) override { fmt::print("{}\n", header); }
  void on_message(const std::string& sentence) override { fmt::print("{}\n", sentence); }
  void on_epoch(const EpochRecord& e) override {
    fmt::print("epoch {}: held-out accuracy {:.2f}, under attack {:.2f}\n", e.epoch,
               *e.clean_accuracy, *e.robust_accuracy);
  }
};

int main(int argc, char** argv) try {
  require(argc == 2, "give the folder for the checkpoints: {} FOLDER", argv[0]);
  const std::filesystem::path folder = argv[1];
  Exec exec;  // this machine's CPU, all its cores
  const Dataset training = bars(1200, 1), test = bars(200, 2);

  Recipe recipe;  // every field has a default: adversarial/recipe.h
  recipe.model = "cnn_small";
  recipe.width = 6;
  recipe.method = "pgd-at";  // Madry et al. 2018
  recipe.eps = 0.1;          // in Linf, pixels in [0, 1]
  recipe.attack_steps = 5;
  recipe.epochs = 12;
  recipe.lr = 0.1;
  recipe.batch_size = 25;
  recipe.hold_out = 200;  // to choose the best epoch by

  std::filesystem::create_directories(folder);
  Printer printer;
  Trainer(exec, recipe, training).run(folder, printer);

  // best.safetensors holds the weights of the epoch with the best accuracy under attack.
  const LoadedModel best = load_checkpoint(exec, folder / "best.safetensors");
  EvaluateOptions options;
  options.attack = pgd({.norm = Norm::kLinf, .eps = recipe.eps}, 20, recipe.eps / 4);
  options.attack.stop = StopRule::kOnSuccess;
  Pool pool;
  const Evaluation result = evaluate(exec, pool, *best.model, test, options);
  fmt::print("test images: accuracy {:.3f}, under PGD-20 {:.3f}\n", result.clean_accuracy,
             result.robust_accuracy);
  return result.robust_accuracy > 0.5 ? 0 : 1;  // one in four without having learnt anything
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
