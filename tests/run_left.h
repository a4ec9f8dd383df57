// What a finished run leaves in its folder, without the times in it: what two runs that should be
// one and the same are compared by.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "engine/files.h"
#include "tests/temp_folder.h"
#include "tools/run_folder.h"

namespace ringfort::test {

struct Left {
  std::set<std::string> files;
  Bytes best, last, live;  // live: where weights are averaged
  std::string summary, metrics;

  static std::set<std::string> names(const std::filesystem::path& folder) {
    std::set<std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      all.insert(entry.path().filename().string());
    return all;
  }

  explicit Left(const std::filesystem::path& folder)
      : files(names(folder)),
        best(slurp(folder / kBestCheckpoint)),
        last(slurp(folder / kLastCheckpoint)) {
    if (files.contains(kLiveCheckpoint)) live = slurp(folder / kLiveCheckpoint);
    std::istringstream lines(read_text(folder / kSummaryFile));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream cells(line);
      int column = 0;
      for (std::string cell; std::getline(cells, cell, ','); ++column)
        // Without images per second, seconds, and what comes after "best": milliseconds, memory.
        if (column < 7 || column == 9) summary += cell + ",";
      summary += "\n";
    }
    std::istringstream records(read_text(folder / kMetricsFile));
    for (std::string line; std::getline(records, line);) {
      auto json = nlohmann::json::parse(line);
      json.erase("seconds");
      json.erase("images_per_second");
      json.erase("step_ms");
      json.erase("memory");  // of this process
      // How much memory was free is another number every time.
      if (json.value("text", "").starts_with("memory: ")) json.erase("text");
      metrics += json.dump() + "\n";
    }
  }
};

inline void check_equal(const Left& a, const Left& b) {
  CHECK(a.files == b.files);
  CHECK((a.best == b.best));
  CHECK((a.last == b.last));
  CHECK((a.live == b.live));
  CHECK(a.summary == b.summary);
  CHECK(a.metrics == b.metrics);
}

}  // namespace ringfort::test
