#include <fmt/format.h>

#include <cstdio>

#include "bench/bench.h"

namespace ringfort::bench {
namespace {

std::string number(double value) {
  if (value == 0) return "0";
  const double size = value < 0 ? -value : value;
  if (size < 0.01) return fmt::format("{:.2e}", value);
  return fmt::format("{:.{}f}", value, size < 10 ? 2 : size < 1000 ? 1 : 0);
}

std::string ratio_text(double ratio, bool percent) {
  return percent ? fmt::format("{:.1f} %", 100 * ratio) : fmt::format("{:.2f} x", ratio);
}

// "86.1 % of 16.8 bare convolutions (goal >= 85 %)"
std::string sentence(const Figure& figure, const Comparison& comparison) {
  const double ratio = figure.value / comparison.reference;
  const bool percent = !comparison.as_factor;
  std::string text = fmt::format("{}{} {} {}", ratio_text(ratio, percent), percent ? " of" : "",
                                 number(comparison.reference), comparison.reference_name);
  if (!comparison.goal) return text;
  const bool met = comparison.at_most ? ratio <= *comparison.goal : ratio >= *comparison.goal;
  return text + fmt::format(" (goal {} {}: {})", comparison.at_most ? "<=" : ">=",
                            percent ? fmt::format("{:.0f} %", 100 * *comparison.goal)
                                    : fmt::format("{:.2f} x", *comparison.goal),
                            met ? "met" : "missed");
}

}  // namespace

std::vector<std::string> peer_machine(const Context& context) {
  const bool cpu = context.exec.device().kind == DeviceKind::kCpu;
  return {"--threads", std::to_string(context.exec.threads()), "--device", cpu ? "cpu" : "cuda"};
}

void Report::start_bench(std::string_view name, std::string_view what) {
  bench_ = name;
  if (quiet_) return;
  fmt::print("\n{}: {}\n", name, what);
  std::fflush(stdout);
}

void Report::print(const Figure& figure) const {
  if (quiet_) return;
  fmt::print("  {:<38} {:>9} {:<8}", figure.name, number(figure.value), figure.unit);
  for (const Comparison& comparison : figure.comparisons)
    fmt::print(" | {}", sentence(figure, comparison));
  fmt::print("{}{}\n", figure.remark.empty() ? "" : " | ", figure.remark);
  std::fflush(stdout);
}

void Report::add(const Figure& figure) {
  print(figure);
  nlohmann::json comparisons = nlohmann::json::array();
  for (const Comparison& comparison : figure.comparisons) {
    nlohmann::json entry = {{"with", comparison.reference_name},
                            {"value", comparison.reference},
                            {"ratio", figure.value / comparison.reference}};
    if (comparison.goal) entry[comparison.at_most ? "at_most" : "at_least"] = *comparison.goal;
    comparisons.push_back(std::move(entry));
  }
  figures_.push_back({{"bench", bench_},
                      {"figure", figure.name},
                      {"value", figure.value},
                      {"unit", figure.unit},
                      {"comparisons", std::move(comparisons)},
                      {"remark", figure.remark}});
  if (on_figure) on_figure();
}

void Report::say(std::string_view sentence) const {
  if (quiet_) return;
  fmt::print("  {}\n", sentence);
  std::fflush(stdout);
}

}  // namespace ringfort::bench
