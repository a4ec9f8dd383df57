// Real numbers as text, with the fractions in which radii and step sizes are written: 8/255.
#include <charconv>
#include <cmath>

#include "kernels/error.h"
#include "tools/recipe_file.h"

namespace ringfort {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

bool read_number(std::string_view text, double& value) {
  text = trimmed(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

// The nearest quarter of a grey level: eps, and eps / 4 as a step size.
double grey_levels(double value) { return std::round(value * 4 * 255) / 4; }

std::string shorter(const std::string& plain, double levels, bool exact) {
  if (!exact || levels <= 0 || levels > 255) return plain;
  const std::string fraction = fmt::format("{}/255", levels);
  return fraction.size() < plain.size() ? fraction : plain;
}

}  // namespace

double parse_real(std::string_view what, std::string_view text) {
  const size_t slash = text.find('/');
  double numerator = 0, denominator = 1;
  const bool ok =
      read_number(text.substr(0, slash), numerator) &&
      (slash == std::string_view::npos || read_number(text.substr(slash + 1), denominator));
  require(ok, "{} expects a number such as 0.03 or 8/255, not '{}'", what, text);
  require(denominator != 0, "{}: '{}' divides by zero", what, text);
  const double value = numerator / denominator;
  require(std::isfinite(value), "{}: '{}' is too large", what, text);
  return value;
}

std::string format_real(double value) {
  const double levels = grey_levels(value);
  return shorter(fmt::format("{}", value), levels, levels / 255 == value);
}

std::string format_float(double value) {
  const double levels = grey_levels(value);
  const auto rounded = static_cast<float>(value);
  return shorter(fmt::format("{}", rounded), levels, static_cast<float>(levels / 255) == rounded);
}

}  // namespace ringfort
