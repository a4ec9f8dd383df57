#include "adversarial/state_files.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <system_error>

#include "kernels/error.h"

namespace ringfort {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "state-", kSuffix = ".safetensors";

// The steps in a state file's name; none for other files.
std::optional<int64_t> steps_of(const std::string& name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  const char* first = name.data() + kPrefix.size();
  const char* last = name.data() + name.size() - kSuffix.size();
  int64_t steps = 0;
  const auto [end, error] = std::from_chars(first, last, steps);
  if (error != std::errc() || end != last || first == last) return std::nullopt;
  return steps;
}

void remove_from(const fs::path& folder, size_t kept) {
  const std::vector<fs::path> files = state_files(folder);
  for (size_t i = kept; i < files.size(); ++i) {
    std::error_code error;
    fs::remove(files[i], error);
    require(!error, "cannot remove '{}': {}", files[i].string(), error.message());
  }
}

}  // namespace

fs::path state_path(const fs::path& folder, int64_t steps) {
  return folder / fmt::format("{}{:08}{}", kPrefix, steps, kSuffix);
}

std::vector<fs::path> state_files(const fs::path& folder, int64_t before) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (const auto steps = steps_of(at->path().filename().string()); steps && *steps < before)
      found.emplace_back(*steps, at->path());
  require(!error, "cannot look into '{}': {}", folder.string(), error.message());
  std::sort(found.rbegin(), found.rend());
  std::vector<fs::path> files;
  for (auto& [steps, path] : found) files.push_back(std::move(path));
  return files;
}

void remove_old_states(const fs::path& folder) { remove_from(folder, 2); }
void remove_states(const fs::path& folder) { remove_from(folder, 0); }

}  // namespace ringfort
