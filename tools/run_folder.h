// The folder of a training run: recipe.toml, summary.csv (a line per epoch), metrics.jsonl (a JSON
// object per record); the trainer adds checkpoints, `ringfort evaluate` evaluation.json, and
// tools/report makes report.html of it all. An existing run is never lost by accident.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "adversarial/observer.h"
#include "adversarial/recipe.h"
#include "tools/progress.h"

namespace ringfort {

inline constexpr const char* kRecipeFile = "recipe.toml";
inline constexpr const char* kSummaryFile = "summary.csv";
inline constexpr const char* kMetricsFile = "metrics.jsonl";
inline constexpr const char* kEvaluationFile = "evaluation.json";
inline constexpr const char* kReportFile = "report.html";
inline constexpr const char* kBestCheckpoint = "best.safetensors";
inline constexpr const char* kLastCheckpoint = "last.safetensors";

enum class ExistingRun {
  kRefuse,     // a folder that holds anything is an error, and nothing in it changes
  kOverwrite,  // a run's own files (the names above and the examples) are removed, others stay
};

class RunFolder : public TrainingObserver {
 public:
  // Creates `folder` with its parents and writes `recipe`, which should be fully resolved.
  // Errors: another run is being trained there. `progress` gets the lines for people and must
  // outlive this object.
  RunFolder(std::filesystem::path folder, const Recipe& recipe, ExistingRun existing,
            std::FILE* progress = stdout);

  const std::filesystem::path& path() const { return folder_; }

  // Each writes its record and flushes it, so that a killed run leaves all it has told.
  void on_start(const std::string& header) override;
  void on_step(const StepRecord& record) override;
  void on_epoch(const EpochRecord& record) override;
  void on_message(const std::string& sentence) override;

 private:
  // A text file that grows line by line; a failed write (a full disk) is an Error.
  class Log {
   public:
    explicit Log(std::filesystem::path path);
    void append(const std::string& line);

   private:
    struct Close {
      void operator()(std::FILE* file) const { std::fclose(file); }
    };
    std::filesystem::path path_;
    std::unique_ptr<std::FILE, Close> file_;
  };

  // Held while the run lasts, so that of two in one folder the second changes nothing. Where the
  // file system knows no locks there is none.
  class Lock {
   public:
    explicit Lock(const std::filesystem::path& folder);
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    ~Lock();

   private:
    int descriptor_;
  };

  std::filesystem::path folder_;
  Lock lock_;
  std::unique_ptr<Log> summary_, metrics_;
  Progress progress_;
};

}  // namespace ringfort
