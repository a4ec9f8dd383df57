#include "tools/nearest.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <vector>

namespace ringfort {
namespace {

constexpr size_t kLongestWord = 64;  // no known word is longer; what follows cannot help

std::string folded(std::string_view word) {
  std::string out(word.substr(0, kLongestWord));
  for (char& c : out)
    c = c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// Single-character insertions, deletions and replacements that turn `a` into `b`; one row of the
// usual table is kept.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
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
