// ringfort-bench: measures Ringfort beside the limits of the machine and beside PyTorch.
//   ringfort-bench [name ...] [--json FILE] [--repeats N] [--threads N] [--peer PYTHON]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>
#include <fstream>

#include "bench/bench.h"
#include "distributed/launch.h"
#include "engine/version.h"
#include "tools/machine.h"

namespace ringfort::bench {
namespace {

constexpr Bench kBenches[] = {
    {"pgd-step", "PGD-10 training step, preact_resnet18, float32, attack on running statistics",
     run_pgd_step},
    {"pgd-step-bf16", "the same in bfloat16", run_pgd_step_bf16},
    {"pgd-step-mixed", "the same with a bfloat16 attack and a float32 training pass",
     run_pgd_step_mixed},
    {"fgsm-rs-step", "FGSM-RS training step, preact_resnet18, bfloat16", run_fgsm_rs_step},
    {"wrn-step", "PGD-10 training step, wrn_34_10, float32 on a CPU, bfloat16 on a GPU",
     run_wrn_step},
    {"resnet50-step", "PGD-3 training step, resnet50 at 224 x 224, in the same dtypes",
     run_resnet50_step},
    {"fused-pgd", "attack kernels beside a copy of as many bytes", run_fused_pgd},
    {"update", "optimizers over preact_resnet18's flat buffers beside a copy of as many bytes",
     run_update},
    {"perturbation", "what weight perturbation adds to a PGD-10 training step", run_perturbation},
    {"norm", "batch norm with ReLU beside a copy of as many bytes", run_norm},
    {"save", "saving and loading states and checkpoints beside plain writing and reading",
     run_save},
    {"jpeg", "JPEG files to crops of 224 x 224 on one core beside bare decoding", run_jpeg, true},
    {"parity", "logits and input gradients beside PyTorch's from the same weights", run_parity,
     true},
    {"weights", "the same of small networks, exported as each naming and loaded strictly",
     run_weights, true},
    {"exchange", "a gradient summed over the ranks of a job; launch with mpirun", run_exchange,
     false, true},
    {"compressors", "gradients encoded and decoded, beside a copy of as many bytes",
     run_compressors},
    {"projection", "a step of DAT on 8 to 1024 ranks by the cost model: no measurement",
     run_projection, false, true},
};

struct Options {
  std::vector<std::string> names;
  std::string json, peer = "build/peer/bin/python", images;
  std::string device = "cpu";
  int repeats = 5, threads = 0;
  double megabytes = 46, gbit = 0;
  std::vector<int64_t> batches;
};

std::string today() {
  const std::time_t time = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&time, &utc);
  return fmt::format("{:04}-{:02}-{:02}", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday);
}

void check_names(const std::vector<std::string>& names) {
  std::string known;
  for (const Bench& bench : kBenches)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", bench.name);
  for (const std::string& name : names) {
    const bool found = std::any_of(std::begin(kBenches), std::end(kBenches),
                                   [&](const Bench& bench) { return bench.name == name; });
    require(found, "there is no bench '{}'; known are {}", name, known);
  }
}

void write_json(const Options& options, const std::string& machine, const Report& report) {
  const nlohmann::json json = {
      {"version", version()},        {"date", today()},
      {"machine", machine},          {"repeats", options.repeats},
      {"figures", report.figures()},
  };
  std::ofstream file(options.json);
  file << json.dump(2) << '\n';
  file.close();
  require(file.good(), "{}: cannot be written", options.json);
}

void run(const Options& options) {
  check_names(options.names);
  require(options.repeats >= 1, "--repeats: must be 1 or more, got {}", options.repeats);
  for (const int64_t batch : options.batches)
    require(batch >= 1, "--batch: must be 1 or more, got {}", batch);
  require(options.megabytes > 0 && options.megabytes <= 4000,
          "--mb: must be above 0 and at most 4000, got {}", options.megabytes);
  require(options.gbit >= 0, "--gbit: must not be negative, got {}", options.gbit);
  const bool speaks = read_launch().rank == 0;
  const auto exec = open_exec(options.device, options.threads);
  const bool cpu = exec->device().kind == DeviceKind::kCpu;
  const std::string machine = fmt::format("{}, {}{}", device_name(exec->device()),
                                          cpu ? fmt::format("{} threads, ", exec->threads()) : "",
                                          library_version(exec->device()));
  if (speaks) fmt::print("Ringfort {}, {}, medians of {}\n", version(), machine, options.repeats);
  Report report(!speaks);
  // After each figure: a bench that is stopped must not take those along that it had.
  if (!options.json.empty() && speaks)
    report.on_figure = [&] { write_json(options, machine, report); };
  Context context{*exec,
                  options.repeats,
                  PeerPython(options.peer, "tools/peer"),
                  report,
                  options.batches,
                  options.images,
                  options.megabytes,
                  options.gbit};
  for (const Bench& bench : kBenches) {
    const auto& names = options.names;
    if (!names.empty() && std::find(names.begin(), names.end(), bench.name) == names.end())
      continue;
    if ((bench.cpu_only && !cpu) || (bench.only_if_named && names.empty())) continue;
    report.start_bench(bench.name, bench.what);
    bench.run(context);
  }
}

}  // namespace
}  // namespace ringfort::bench

int main(int argc, char** argv) {
  ringfort::bench::Options options;
  CLI::App app("Measures Ringfort beside the limits of the machine and beside PyTorch");
  app.add_option("name", options.names, "Benches to run; all where none is named");
  app.add_option("--json", options.json, "Write the figures to this file as well");
  app.add_option("--repeats", options.repeats, "Rounds whose median is reported");
  app.add_option("--threads", options.threads, "Threads; 0 for all cores");
  app.add_option("--device", options.device, "cpu, cuda or cuda:N");
  app.add_option(
      "--batch", options.batches,
      "Batch sizes of the training steps; of preact_resnet18 64 on the CPU, 128 512 1024 "
      "on a GPU where none is given, of larger networks fewer");
  app.add_option(
      "--images", options.images,
      "jpeg: a folder of classes of images, or of shards (*.tar), in place of made ones");
  app.add_option("--mb", options.megabytes, "exchange: megabytes (1e6 bytes) of gradient");
  app.add_option("--gbit", options.gbit, "exchange: the links' rate in Gb/s, to compare with");
  app.add_option("--peer", options.peer, "A Python with PyTorch; 'none' for no comparison");
  try {
    app.parse(argc, argv);
    if (options.peer == "none") options.peer.clear();
    ringfort::bench::run(options);
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    fmt::print(stderr, "ringfort-bench: {}\n", error.what());
    return 1;
  }
}
