#include "tools/target.h"

#include "kernels/error.h"
#include "tools/recipe_file.h"
#include "tools/run_folder.h"

namespace ringfort {

Target find_target(std::string_view command, const std::filesystem::path& path) {
  Target target;
  std::error_code error;  // what cannot be looked at is not there; reading it says why
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::is_directory(status)) {
    require(std::filesystem::exists(status),
            "{}: there is neither a run folder nor a checkpoint at '{}'{}{}; name a folder that "
            "'ringfort train' made, or a .safetensors file in it",
            command, path.string(), error ? ": " : "", error ? error.message() : "");
    target.checkpoint = path;
  } else {
    target.run = path;
    target.checkpoint = path / kBestCheckpoint;
    require(std::filesystem::exists(target.checkpoint),
            "{}: {} holds no {}; has a run been trained there?", command, path.string(),
            kBestCheckpoint);
  }
  const auto recipe = target.checkpoint.parent_path() / kRecipeFile;
  if (std::filesystem::exists(recipe, error)) target.recipe = read_recipe(recipe);
  return target;
}

void require_new(const std::filesystem::path& file) {
  std::error_code none;
  require(!std::filesystem::exists(std::filesystem::symlink_status(file, none)),
          "--output: '{}' is there already; nothing was changed, choose another name",
          file.string());
}

}  // namespace ringfort
