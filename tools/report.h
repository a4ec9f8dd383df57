// report.html: one self-contained page about a run, made only from what lies in its folder, so it
// can be made again at any time. No scripts, nothing fetched from anywhere.
#pragma once

#include <filesystem>

namespace ringfort {

// Writes report.html into the folder (atomically) and returns its path. What is missing is left out
// with a note on the page; a folder that holds no run is an Error.
std::filesystem::path write_report(const std::filesystem::path& run_folder);

}  // namespace ringfort
