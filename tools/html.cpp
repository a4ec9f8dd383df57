#include "tools/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace ringfort {

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool control = static_cast<unsigned char>(c) < ' ' && c != '\n' && c != '\t';
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else if (!control)
      out += c;
  }
  return out;
}

std::string percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f} %", 100 * share) : "-";
}

std::string grouped(int64_t count) {
  std::string digits = std::to_string(count);
  const size_t sign = count < 0 ? 1 : 0;
  for (size_t i = digits.size(); i > 3 + sign;) digits.insert(i -= 3, 1, ',');
  return digits;
}

std::string shell_word(std::string_view word) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("/._-+:=,@%").find(static_cast<char>(c)) != std::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return std::string(word);
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

Interval wilson(double share, int64_t n) {
  constexpr double kZ = 1.959963985;  // 97.5 % quantile of the normal distribution
  const double count = static_cast<double>(n), z2 = kZ * kZ;
  const double scale = 1 / (1 + z2 / count);
  const double middle = scale * (share + z2 / (2 * count));
  const double half =
      scale * kZ * std::sqrt(share * (1 - share) / count + z2 / (4 * count * count));
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

}  // namespace ringfort
