// "Did you mean": the known word nearest to a mistyped one, for keys, sections, options and
// commands.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace ringfort {

// The word of `known` with the smallest edit distance (Levenshtein) to `word`, the first of equals.
// A known word that contains `word` whole ("attack-steps" for "steps") counts as one edit away.
// Empty when `known` is empty. '_' counts as '-', and capitals as small letters.
std::string nearest(std::string_view word, std::span<const std::string> known);

}  // namespace ringfort
