// What a user names by RUN_OR_CHECKPOINT.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "adversarial/recipe.h"

namespace ringfort {

struct Target {
  std::filesystem::path checkpoint;
  std::filesystem::path run;     // empty for a bare checkpoint
  std::optional<Recipe> recipe;  // of the run, where its file is still there
};

// A run folder (of which the best checkpoint is meant) or a file. Errors: there is none, in the
// name of `command`.
Target find_target(std::string_view command, const std::filesystem::path& path);

// Error where there is something at `file`, which an --output is to create.
void require_new(const std::filesystem::path& file);

}  // namespace ringfort
