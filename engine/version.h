// The version of the program, written into reports, evaluations and checkpoints.
// It is set in one place, project(... VERSION ...) in CMakeLists.txt.
#pragma once

#include <string_view>

namespace ringfort {

// "major.minor.patch".
std::string_view version();

}  // namespace ringfort
