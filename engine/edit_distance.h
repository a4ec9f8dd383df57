// How far a mistyped name is from a known one.
#pragma once

#include <cstddef>
#include <string_view>

namespace ringfort {

// Levenshtein distance: single-character insertions, deletions and replacements that turn `a` into
// `b`.
size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace ringfort
