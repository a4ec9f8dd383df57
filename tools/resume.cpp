#include "tools/resume.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "adversarial/state_files.h"
#include "engine/files.h"
#include "tools/report.h"
#include "tools/run_folder.h"

namespace ringfort {
namespace {

// These change no byte of what is trained.
constexpr std::array kFree = {"data-dir", "output", "save-every", "workers"};

std::vector<std::string> differences(const Recipe& then, const Recipe& now) {
  std::vector<std::string> all;
  for (const RecipeField& field : recipe_fields()) {
    const bool free = std::find(kFree.begin(), kFree.end(), field.key) != kFree.end();
    const std::string before = toml_value(then, field), after = toml_value(now, field);
    if (!free && before != after)
      all.push_back(fmt::format("{} was {} and is {} now", field.key, before, after));
  }
  return all;
}

}  // namespace

bool goes_on(const TrainCommand& command, const Recipe& recipe) {
  if (command.resume == Resume::kNo) return false;
  const std::filesystem::path folder = recipe.output;
  std::error_code none;
  if (!holds_a_run(folder)) {
    require(command.resume == Resume::kAuto,
            "--resume: '{}' holds no run; name the run's folder by --output, or leave --resume out",
            folder.string());
    return false;
  }
  if (is_stillborn(folder)) return true;
  require(std::filesystem::exists(folder / kRecipeFile, none),
          "--resume: '{}' has lost its {}, so nobody knows what was trained there", folder.string(),
          kRecipeFile);
  const auto changed = differences(read_recipe(folder / kRecipeFile), recipe);
  require(changed.empty(), "--resume: the run in '{}' was another: {}", folder.string(),
          fmt::join(changed, ", "));
  return true;
}

void finish(const std::filesystem::path& folder) {
  std::error_code none;
  remove_unfinished_writes(folder);
  remove_states(folder);
  if (!std::filesystem::exists(folder / kReportFile, none)) write_report(folder);
}

std::optional<std::filesystem::path> resume_newest(Trainer& trainer,
                                                   const std::filesystem::path& folder) {
  const auto states = state_files(folder);
  std::string reason;
  for (const auto& path : states) try {
      trainer.resume(path);
      if (!reason.empty())
        fmt::print(stderr, "ringfort: {}; the state before it is taken: {}\n", reason,
                   path.filename().string());
      return path;
    } catch (const Error& error) {
      reason = error.what();
    }
  require(states.empty(), "--resume: no state of the run in '{}' can be read: {}", folder.string(),
          reason);
  return std::nullopt;
}

}  // namespace ringfort
