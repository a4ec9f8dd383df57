// From the command line to a command. Nothing is read or run here.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "tools/commands.h"

namespace ringfort {

using Command = std::variant<TrainCommand, EvaluateCommand, PseudoLabelCommand, ReplayCommand,
                             ExportCommand, ImportCommand, ReportCommand, InfoCommand, TextCommand>;

// `arguments` without the program's name. Throws UsageError with one sentence; an unknown option or
// command names the nearest known one. Values of recipe keys are checked later, by read_recipe.
Command parse_command_line(std::vector<std::string> arguments);

}  // namespace ringfort
