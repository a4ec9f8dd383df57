// The sections of the report, each from plain data to HTML. Internal to tools/report.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "tools/report_data.h"

namespace ringfort {

std::string_view report_style();  // CSS, light and dark

// "PGD: 50 steps of 0.025 from each of 10 random starts, ..."
std::string attack_in_words(const Evaluation& evaluation);

std::string headline_html(const RunData& run);
std::string curves_html(const RunData& run);
std::string examples_html(const Evaluation& evaluation);
std::string confusion_html(const Evaluation& evaluation);
std::string settings_html(const Recipe& recipe);
std::string reproduce_html(const RunData& run, const std::filesystem::path& folder);

}  // namespace ringfort
