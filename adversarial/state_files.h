// The files that a training leaves in its run folder: checkpoints, and while it lasts its states,
// "state-STEPS.safetensors". The last two of these are kept: should the newest be damaged, the one
// before serves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace ringfort {

inline constexpr const char* kBestCheckpoint = "best.safetensors";  // of the best epoch
inline constexpr const char* kLastCheckpoint = "last.safetensors";
// Where an average of the weights is what the two above hold: the weights of the last epoch.
inline constexpr const char* kLiveCheckpoint = "live.safetensors";

// Where the state after so many steps is kept.
std::filesystem::path state_path(const std::filesystem::path& folder, int64_t steps);

// Those that are there, the newest first; only states after fewer than `before` steps.
std::vector<std::filesystem::path> state_files(const std::filesystem::path& folder,
                                               int64_t before = INT64_MAX);

// All but the newest two.
void remove_old_states(const std::filesystem::path& folder);
void remove_states(const std::filesystem::path& folder);

}  // namespace ringfort
