#include "tools/nearest.h"

#include <algorithm>
#include <cctype>
#include <cstdint>

#include "engine/edit_distance.h"

namespace ringfort {
namespace {

constexpr size_t kLongestWord = 64;  // no known word is longer; what follows cannot help

std::string folded(std::string_view word) {
  std::string out(word.substr(0, kLongestWord));
  for (char& c : out)
    c = c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

std::string nearest(std::string_view word, std::span<const std::string> known) {
  const std::string wanted = folded(word);
  std::string best;
  size_t best_distance = SIZE_MAX;
  for (const std::string& candidate : known) {
    const std::string word_known = folded(candidate);
    const bool part = wanted.size() >= 3 && word_known.find(wanted) != std::string::npos;
    const size_t distance =
        std::min(edit_distance(wanted, word_known), part ? size_t{1} : SIZE_MAX);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace ringfort
