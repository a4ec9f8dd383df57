// What is fed with bytes of anyone's making: by libFuzzer (tests/fuzz/run), and, from the corpus,
// by an ordinary test. Each target takes any bytes at all; what it may do is refuse them by an
// Error of one line, or read them and keep the promises of its header. Anything else ends the
// process.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace ringfort::test {

struct FuzzTarget {
  std::string_view name;  // also of its folder in tests/fuzz/corpus
  void (*run)(std::span<const uint8_t> bytes);
};

// CIFAR's files are not among them: they have no header, and any bytes of the one right size are
// images.
std::span<const FuzzTarget> fuzz_targets();

}  // namespace ringfort::test
