// A folder for the files of a bench.
#pragma once

#include <unistd.h>

#include <filesystem>

#include "kernels/error.h"

namespace ringfort::bench {

// Removed with everything in it.
struct TemporaryFolder {
  explicit TemporaryFolder(const std::filesystem::path& parent)
      : path(parent / fmt::format("ringfort-bench-{}", ::getpid())) {
    std::filesystem::create_directories(path);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path path;
};

}  // namespace ringfort::bench
