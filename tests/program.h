// The real program, run as its users run it.
#pragma once

#include <sys/wait.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <string>

namespace ringfort::test {

struct Outcome {
  int exit_code = -1;  // as a shell has it: 128 + the signal that killed it
  std::string output;  // stdout and stderr together
};

inline Outcome run_command(const std::string& command) {
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  Outcome outcome;
  std::array<char, 4096> buffer;
  for (size_t got; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    outcome.output.append(buffer.data(), got);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.exit_code = 128 + WTERMSIG(status);
  return outcome;
}

// environment: "NAME=value ..." in front of it.
inline Outcome run_program(const std::string& arguments, const std::string& environment = "") {
  return run_command(environment + " " + RINGFORT_PROGRAM + " " + arguments);
}

// One sentence on one line, with the program's name in front.
inline void check_complaint(const Outcome& outcome, int exit_code, const std::string& part) {
  INFO(outcome.output);
  CHECK(outcome.exit_code == exit_code);
  CHECK_THAT(outcome.output, Catch::StartsWith("ringfort: ") && Catch::Contains(part));
  CHECK(outcome.output.find('\n') == outcome.output.size() - 1);
}

}  // namespace ringfort::test
