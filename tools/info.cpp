// `ringfort info`: what this build and this machine can do.
#include <fmt/format.h>

#include "engine/data/dataset.h"
#include "engine/version.h"
#include "kernels/onednn.h"
#include "kernels/plans.h"
#include "models/model.h"
#include "tools/commands.h"
#include "tools/machine.h"

namespace ringfort {
namespace {

void print_plans(Exec& exec) {
  const std::vector<PlanEntry> plans = exec.plans().entries();
  fmt::print("{} plans in {} (the fastest of each shape, measured once):\n", plans.size(),
             plan_file(exec.device()).string());
  for (const PlanEntry& plan : plans) {
    fmt::print("  {}\n", plan.key);
    for (const PlanCandidate& candidate : plan.candidates)
      fmt::print("    {} {:<28} {:>10.1f} us  {:>7.1f} GFLOP/s\n",
                 candidate.name == plan.chosen ? '*' : ' ', candidate.name, candidate.microseconds,
                 plan.gflop_per_second(candidate));
  }
}

}  // namespace

int run_info(const InfoCommand& command) {
  const std::unique_ptr<Exec> exec = open_exec("auto", 0);
  fmt::print("Ringfort {}\n", version());
  fmt::print("CPU: {}, {} threads, bfloat16 {}\n", cpu_name(), exec->threads(),
             cpu_has_bfloat16() ? "in hardware" : "emulated");
  if (exec->device().kind == DeviceKind::kCuda)
    fmt::print("GPU: {}\n", device_name(exec->device()));
  fmt::print("Convolutions and matrix products: {}\n", library_version(exec->device()));
  fmt::print("Data sets:");
  for (const std::string_view name : dataset_names()) fmt::print(" {}", name);
  fmt::print("\n");
  if (command.models || !command.plans) {
    fmt::print("Models:\n");
    for (const ModelEntry& model : model_registry())
      fmt::print("  {:<20} width {:>3}  {}\n", model.name, model.default_width, model.description);
  }
  if (command.plans) print_plans(*exec);
  return 0;
}

}  // namespace ringfort
