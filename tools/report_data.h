// What lies in a run folder, read back for the report. A part that is missing or broken becomes a
// note, never an error: a report of half a run is worth having.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "adversarial/evaluation.h"
#include "adversarial/observer.h"
#include "adversarial/recipe.h"

namespace ringfort {

struct RunData {
  std::optional<Recipe> recipe;
  std::vector<EpochRecord> epochs;    // of summary.csv
  std::vector<StepRecord> steps;      // of metrics.jsonl; numbers that were not finite are NaN
  std::vector<std::string> messages;  // what training said at once
  std::string header, version;        // of the training run
  std::string imported_from;          // a file, where the weights were not trained; else empty
  std::optional<Evaluation> evaluation;
  std::vector<std::string> notes;  // sentences: what is left out and why
};

// Throws Error only when `folder` is no folder or holds no file of a run.
RunData read_run(const std::filesystem::path& folder);

}  // namespace ringfort
