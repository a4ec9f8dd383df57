// Errors: one exception type, raised with a sentence that says what was wrong, where and what to
// do. It is caught in main only, which prints the sentence and exits with 1 (see tools/main.cpp);
// OutOfMemory also where memory can be made free, or a batch named that fits.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace ringfort {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A device has not as much memory as is needed. cause: the sentence without the advice.
class OutOfMemory : public Error {
 public:
  explicit OutOfMemory(const std::string& cause)
      : Error(cause + "; use a smaller batch"), cause_(cause) {}
  const std::string& cause() const { return cause_; }

 private:
  std::string cause_;
};

// Control characters become question marks.
std::string printable(std::string_view text);

// Throws Error with the formatted text, which is one line whatever names from files are in it.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw Error(printable(fmt::format(text, std::forward<Args>(args)...)));
}

// Throws Error with the formatted text unless `condition` holds.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) [[unlikely]]
    fail(text, std::forward<Args>(args)...);
}

}  // namespace ringfort
