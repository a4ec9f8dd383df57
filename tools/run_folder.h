// The folder of a training run: recipe.toml, summary.csv (a line per epoch), metrics.jsonl (a JSON
// object per record), an event file for TensorBoard; the trainer adds checkpoints, `ringfort
// evaluate` evaluation.json, and tools/report makes report.html of it all. An existing run is never
// lost by accident.
#pragma once

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "adversarial/observer.h"
#include "adversarial/recipe.h"
#include "adversarial/state_files.h"
#include "tools/progress.h"

namespace ringfort {

inline constexpr const char* kRecipeFile = "recipe.toml";
inline constexpr const char* kSummaryFile = "summary.csv";
inline constexpr const char* kMetricsFile = "metrics.jsonl";
inline constexpr const char* kEventFile = "events.out.tfevents.ringfort";  // TensorBoard's pattern
inline constexpr const char* kEvaluationFile = "evaluation.json";
inline constexpr const char* kReportFile = "report.html";

enum class ExistingRun {
  kRefuse,     // a folder that holds anything is an error, and nothing in it changes
  kOverwrite,  // a run's own files (the names above, states and examples) are removed, others stay
  kResume,     // there must be one, and it goes on
};

// Whether a folder holds a run; one that was killed before it wrote its recipe, and anything else.
bool holds_a_run(const std::filesystem::path& folder);
bool is_stillborn(const std::filesystem::path& folder);

// How the run in a folder ended; kNone: it did not, and can be gone on with.
enum class RunEnd { kNone, kFinished, kCollapsed };
RunEnd end_of(const std::filesystem::path& folder);

// The file that a run's weights come from where they were not trained there; else empty.
std::string imported_from(const std::filesystem::path& folder);

class RunFolder : public TrainingObserver {
 public:
  // Creates `folder` with its parents and writes `recipe`, which should be fully resolved, or, with
  // kResume, opens the records of the run in it. stop_requested: what the training asks after each
  // step. Errors: another run is being trained there. `progress` gets the lines for people and must
  // outlive this object.
  RunFolder(std::filesystem::path folder, const Recipe& recipe, ExistingRun existing,
            std::FILE* progress = stdout, std::function<bool()> stop_requested = {});

  const std::filesystem::path& path() const { return folder_; }

  // Each writes its record and flushes it, so that a killed run leaves all it has told.
  void on_start(const std::string& header) override;
  void on_step(const StepRecord& record) override;
  void on_epoch(const EpochRecord& record) override;
  void on_message(const std::string& sentence) override;
  void on_end(bool collapsed) override;
  // In place of a training: the weights are those of `file`. The recipe keeps what an evaluation
  // reads.
  void on_import(const std::string& file, const Recipe& recipe);
  // How long the records are, which on_resume() cuts them back to: what was told after the state
  // was saved is told again.
  std::string on_save() override;
  void on_resume(const std::string& header, const std::string& saved, int64_t step) override;
  bool stop_requested() override { return stop_requested_ && stop_requested_(); }

 private:
  // A file that grows by whole records; a failed write (a full disk) is an Error.
  class Log {
   public:
    Log(std::filesystem::path path, bool existing);
    void append(std::string_view record);
    void append_line(const std::string& line) { append(line + '\n'); }
    int64_t saved_bytes();  // on the disk, not only on its way there
    void cut(int64_t bytes);

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

  void open_events(bool resumed);

  std::filesystem::path folder_;
  Lock lock_;
  std::unique_ptr<Log> summary_, metrics_, events_;
  Progress progress_;
  std::function<bool()> stop_requested_;
};

}  // namespace ringfort
