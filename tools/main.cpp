// The program: parse, run, and turn an error into one sentence on stderr. Exit codes: 0 done, 1
// failed, 2 the command line is wrong, 3 training stopped because it collapsed, 4 it was stopped
// and can be resumed, 5 another rank of the job failed: it can be resumed.
#include <fmt/format.h>

#include <exception>
#include <thread>

#include "distributed/launch.h"
#include "tools/cli.h"
#include "tools/report.h"

namespace ringfort {
namespace {

int run(const TrainCommand& command) {
  return run_train(read_recipe(command.recipe_file, command.overrides), command);
}

int run(const EvaluateCommand& command) { return run_evaluate(command); }

int run(const PseudoLabelCommand& command) { return run_pseudo_label(command); }

int run(const ReplayCommand& command) { return run_replay(command); }

int run(const ExportCommand& command) { return run_export(command); }

int run(const ImportCommand& command) { return run_import(command); }

int run(const ReportCommand& command) {
  fmt::print("{}\n", write_report(command.run).string());
  return 0;
}

int run(const InfoCommand& command) { return run_info(command); }

int run(const TextCommand& command) {
  fmt::print("{}", command.text);
  return 0;
}

int complain(const char* sentence, int exit_code) {
  fmt::print(stderr, "ringfort: {}\n", sentence);
  return exit_code;
}

}  // namespace
}  // namespace ringfort

int main(int argc, char** argv) {
  try {
    const ringfort::Command command = ringfort::parse_command_line({argv + 1, argv + argc});
    return std::visit([](const auto& chosen) { return ringfort::run(chosen); }, command);
  } catch (const ringfort::UsageError& error) {
    return ringfort::complain(error.what(), 2);
  } catch (const ringfort::CommError& error) {
    const int exit_code = ringfort::complain(error.what(), ringfort::kRestartExitCode);
    std::this_thread::sleep_for(ringfort::kRestartExitPause);
    return exit_code;
  } catch (const std::exception& error) {
    return ringfort::complain(error.what(), 1);
  }
}
