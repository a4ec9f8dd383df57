#include "tools/report_data.h"

#include <charconv>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/files.h"
#include "engine/json_error.h"
#include "kernels/error.h"
#include "tools/evaluation_file.h"
#include "tools/recipe_file.h"
#include "tools/run_folder.h"

namespace ringfort {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr uint64_t kMaxLogBytes = uint64_t{1} << 29;

// ---- summary.csv -------------------------------------------------------------------------------

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> cells;
  std::istringstream in(line);
  for (std::string cell; std::getline(in, cell, ',');) cells.push_back(cell);
  return cells;
}

double number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size(), "'{}' is not a number", text);
  return value;
}

// A whole number, small enough for the type it goes to.
template <class Integer>
Integer whole(double value) {
  require(value >= 0 && value <= std::min(9e15, double(std::numeric_limits<Integer>::max())),
          "{} is not a count", value);
  return static_cast<Integer>(value);
}

EpochRecord epoch_from(const std::vector<std::string>& names,
                       const std::vector<std::string>& cells) {
  require(cells.size() == names.size(), "{} cells, {} expected", cells.size(), names.size());
  std::map<std::string, double> value;  // without empty cells
  for (size_t i = 0; i < names.size(); ++i)
    if (!cells[i].empty()) value[names[i]] = number(cells[i]);
  const auto at = [&](const char* name) {
    require(value.contains(name), "there is no column '{}'", name);
    return value[name];
  };
  const auto maybe = [&](const char* name) -> std::optional<double> {
    return value.contains(name) ? std::optional(value[name]) : std::nullopt;
  };
  EpochRecord record;
  record.epoch = whole<int>(at("epoch"));
  record.step = whole<int64_t>(at("step"));
  record.train_loss = at("train_loss");
  record.train_accuracy = at("train_accuracy");
  record.clean_accuracy = maybe("clean_accuracy");
  record.robust_accuracy = maybe("robust_accuracy");
  record.lr = at("lr");
  record.images_per_second = at("images_per_second");
  record.seconds = at("seconds");
  record.best = at("best") != 0;
  return record;
}

// ---- metrics.jsonl -----------------------------------------------------------------------------

double real(const Json& record, const char* key) {
  const Json& value = record.at(key);
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

void take_record(const Json& record, RunData& run) {
  const std::string kind = record.at("kind");
  if (kind == "start") {
    run.header = record.at("header");
    run.version = record.at("version");
  } else if (kind == "import") {
    run.imported_from = record.at("file");
  } else if (kind == "message") {
    run.messages.push_back(record.at("text"));
  } else if (kind == "step") {
    StepRecord step;
    step.step = whole<int64_t>(real(record, "step"));
    step.total_steps = whole<int64_t>(real(record, "total_steps"));
    step.epoch = real(record, "epoch");
    step.loss = real(record, "loss");
    step.accuracy = real(record, "accuracy");
    step.lr = real(record, "lr");
    step.images_per_second = real(record, "images_per_second");
    step.seconds = real(record, "seconds");
    if (record.contains("step_ms"))  // not in the runs of old versions
      for (size_t i = 0; i < step.phases.size(); ++i)
        step.phases.at(i) = 1e-3 * real(record.at("step_ms"), kPhaseNames.at(i));
    if (record.contains("memory")) step.memory = whole<int64_t>(real(record, "memory"));
    if (record.contains("probe_accuracy")) step.probe_accuracy = real(record, "probe_accuracy");
    run.steps.push_back(step);
  }
}

// ---- Files -------------------------------------------------------------------------------------

// Calls `take` for each whole line. The last one, if the run was cut off in it, has no line end.
// Lines that `take` cannot read are counted in a note.
void each_line(const fs::path& path, RunData& run,
               const std::function<void(const std::string& line, int64_t index)>& take) {
  const std::string text = read_text(path, kMaxLogBytes);
  int64_t index = 0, broken = 0, first_broken = 0;
  std::string reason;
  const auto note = [&](const std::string& why) {
    if (broken++ > 0) return;
    first_broken = index + 1;
    reason = why;
  };
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    try {
      take(text.substr(begin, end - begin), index);
    } catch (const Json::exception& error) {
      note(json_reason(error));
    } catch (const std::exception& error) {
      note(error.what());
    }
    ++index;
  }
  if (broken > 0)
    run.notes.push_back(
        fmt::format("{}: {} of {} lines could not be read, the first is line {} ({})",
                    path.filename().string(), broken, index, first_broken, reason));
}

// Runs `read` when the file is there; what goes wrong becomes a note.
void part(const fs::path& path, RunData& run, const char* missing,
          const std::function<void()>& read) {
  const std::string name = path.filename().string();
  std::error_code error;
  if (!fs::exists(path, error)) {
    run.notes.push_back(fmt::format("{} is not there: {}", name, missing));
    return;
  }
  try {
    read();
  } catch (const Error& broken) {
    run.notes.push_back(fmt::format("{} is left out: {}", name, broken.what()));
  }
}

void read_summary(const fs::path& path, RunData& run) {
  std::vector<std::string> names;
  each_line(path, run, [&](const std::string& line, int64_t index) {
    if (index == 0)
      names = split(line);
    else
      run.epochs.push_back(epoch_from(names, split(line)));
  });
}

}  // namespace

RunData read_run(const fs::path& folder) {
  const std::string name = folder.string();
  std::error_code error;
  require(fs::is_directory(folder, error), "'{}' is not a folder; give the folder of a run", name);
  bool any = false;
  for (const char* file : {kRecipeFile, kSummaryFile, kMetricsFile, kEvaluationFile})
    any = any || fs::exists(folder / file, error);
  require(any, "'{}' holds no run: none of {}, {}, {}, {} is there", name, kRecipeFile,
          kSummaryFile, kMetricsFile, kEvaluationFile);

  RunData run;
  const fs::path recipe = folder / kRecipeFile, summary = folder / kSummaryFile,
                 metrics = folder / kMetricsFile, evaluation = folder / kEvaluationFile;
  part(recipe, run, "no settings can be shown", [&] { run.recipe = read_recipe(recipe); });
  part(summary, run, "no accuracies by epoch can be shown", [&] { read_summary(summary, run); });
  part(metrics, run, "no curves by step can be shown", [&] {
    each_line(metrics, run,
              [&](const std::string& line, int64_t) { take_record(Json::parse(line), run); });
  });
  part(evaluation, run, "run ringfort evaluate on this folder to attack the trained model", [&] {
    std::string why_no_examples;
    run.evaluation = read_evaluation(evaluation, &why_no_examples);
    if (!why_no_examples.empty()) run.notes.push_back("Images are left out: " + why_no_examples);
  });
  return run;
}

}  // namespace ringfort
