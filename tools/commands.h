// The commands of the program, as plain data: tools/cli parses them, tools/main runs them. Those
// that need the engine are implemented in train.cpp, evaluate.cpp, pseudo_label.cpp, replay.cpp,
// weights.cpp and info.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "adversarial/recipe.h"
#include "kernels/error.h"
#include "tools/recipe_file.h"

namespace ringfort {

// The command line itself is wrong: exit code 2, every other Error 1.
class UsageError : public Error {
 public:
  using Error::Error;
};

// Whether a run that --output holds is gone on with.
enum class Resume {
  kNo,
  kYes,   // there must be one
  kAuto,  // where there is one; else training begins
};

// ringfort train RECIPE.toml [--key value ...] [--overwrite | --resume[=auto]]
struct TrainCommand {
  std::filesystem::path recipe_file;
  std::vector<Override> overrides;
  bool overwrite = false;  // replace the run that --output holds
  Resume resume = Resume::kNo;
};

// ringfort evaluate RUN_OR_CHECKPOINT ...; what is not given comes from the run's recipe.
struct EvaluateCommand {
  std::filesystem::path target;  // a run folder or a .safetensors file
  std::string attack = "pgd";    // pgd | fgsm | fgsm-rs
  std::optional<std::string> norm;
  std::optional<double> eps;
  std::optional<double> attack_alpha;
  std::optional<int> attack_steps;  // 50 for pgd, 1 for the one-step attacks
  std::optional<int> restarts;      // 10 for pgd, 1 for the one-step attacks
  int64_t n = 1000;                 // the first n test images; 0: all
  int batch_size = 250;
  uint64_t seed = 0;
  std::string norms;  // main | auxiliary; empty: auxiliary, where there are
  std::string attack_dtype = "float32";
  bool tf32 = false;  // on a GPU, float32 products may round their operands
  std::optional<std::string> data_dir;
  int threads = 0;  // 0: all cores
  std::string device = "auto";
  std::filesystem::path json;  // empty: evaluation.json in the run folder
};

// ringfort export RUN_OR_CHECKPOINT --output FILE
struct ExportCommand {
  std::filesystem::path target;  // a run folder or a .safetensors file
  std::filesystem::path output;  // must not exist yet
  std::string naming = "ringfort";
  std::string format = "safetensors";
};

// ringfort import FILE --output FILE_OR_RUN; what is not given comes from the file, where it can.
struct ImportCommand {
  std::filesystem::path file;  // safetensors
  std::filesystem::path
      output;  // a new checkpoint where it ends in .safetensors, else a run folder
  std::string model;
  std::string naming;  // empty: whichever fits
  int width = 0;
  int64_t classes = 0;
  int image_size = 0;            // side of the images
  std::vector<float> mean, std;  // that the network wants its input normalised by
  // Of the recipe that a run folder needs; of a checkpoint only the data set's name is kept.
  std::string dataset, data_dir;
  std::optional<std::string> norm;
  std::optional<double> eps;
};

// ringfort pseudo-label RUN_OR_CHECKPOINT --dataset NAME --data-dir FOLDER --output FILE
struct PseudoLabelCommand {
  std::filesystem::path target;  // a run folder or a .safetensors file
  std::string dataset;           // its training images are labelled, whatever labels it has
  std::string data_dir;
  std::filesystem::path output;  // must not exist yet
  int batch_size = 250;
  int threads = 0;  // 0: all cores
  std::string device = "auto";
};

// ringfort replay RUN STEP
struct ReplayCommand {
  std::filesystem::path run;
  int64_t step = 0;  // from 1
  // Not given: as in training.
  std::optional<std::string> data_dir, device;
  std::optional<int> threads;
};

// ringfort report RUN
struct ReportCommand {
  std::filesystem::path run;
};

// ringfort info [--plans] [--models]
struct InfoCommand {
  bool plans = false;
  bool models = false;
};

// --help and --version: text for stdout, nothing else to do.
struct TextCommand {
  std::string text;
};

// Exit codes beside 0 (done), 1 (failed) and 2 (the command line is wrong).
inline constexpr int kExitCollapsed = 3;    // catastrophic overfitting; checkpoints are from before
inline constexpr int kExitInterrupted = 4;  // stopped by a signal, state saved: resume it

// Each returns the exit code of the program and throws Error. `recipe` is validated, overrides in.
int run_train(const Recipe& recipe, const TrainCommand& command);
int run_evaluate(const EvaluateCommand& command);
int run_pseudo_label(const PseudoLabelCommand& command);
int run_replay(const ReplayCommand& command);
int run_export(const ExportCommand& command);
int run_import(const ImportCommand& command);
int run_info(const InfoCommand& command);

}  // namespace ringfort
