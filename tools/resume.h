// Going on with the run in a folder: whether there is one, whether it is the same, and from which
// state.
#pragma once

#include <filesystem>
#include <optional>

#include "adversarial/trainer.h"
#include "tools/commands.h"

namespace ringfort {

// Whether this command is to go on with a run. Errors: it must, and there is none; the run's recipe
// differs, with every difference named. What only says where data and run lie, or how often it is
// saved, may differ.
bool goes_on(const TrainCommand& command, const Recipe& recipe);

// Does what is left to do in the folder of a finished run that was killed before it had: its states
// go, and its report is written.
void finish(const std::filesystem::path& folder);

// Takes up the newest state in the folder that can be read; what is wrong with newer ones is told.
// Errors: there are states, and none can be read. Returns which it is, or nothing where none has
// been saved yet.
std::optional<std::filesystem::path> resume_newest(Trainer& trainer,
                                                   const std::filesystem::path& folder);

}  // namespace ringfort
