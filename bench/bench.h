// What a bench is: a name, a sentence, and a function that measures and reports figures. A figure
// stands beside what it is compared with: the limit of the machine, or PyTorch on the same shapes,
// both measured in the same run. Benches judge nothing: a missed goal is printed, not an error.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/peer.h"
#include "kernels/exec.h"

namespace ringfort::bench {

// value / reference, and what it should be at least (at most where less is better).
struct Comparison {
  std::string reference_name;       // "bare convolutions", "PyTorch 2.15.0"
  double reference = 0;             // in the figure's unit
  std::optional<double> goal = {};  // of the ratio
  bool at_most = false;
  bool as_factor = false;  // "1.91 x", where a share in percent would read oddly
};

struct Figure {
  std::string name;  // "linf_step, 1024 images"
  double value = 0;
  std::string unit;  // "images/s", "GB/s", "MB"
  std::vector<Comparison> comparisons;
  std::string remark;  // "" or a sentence for the end of the line
};

// Prints figures as they come and keeps them for --json.
class Report {
 public:
  // quiet: prints nothing; of the ranks of a job one reports.
  explicit Report(bool quiet = false) : quiet_(quiet) {}
  void start_bench(std::string_view name, std::string_view what);
  void add(const Figure& figure);
  void say(std::string_view sentence) const;
  const nlohmann::json& figures() const { return figures_; }
  // Called after each figure, where it is set.
  std::function<void()> on_figure;

 private:
  void print(const Figure& figure) const;
  const bool quiet_;
  std::string bench_;
  nlohmann::json figures_ = nlohmann::json::array();
};

// Batch sizes of training steps where --batch names none.
struct DefaultBatches {
  std::vector<int64_t> cpu, gpu;
};

// Of preact_resnet18.
inline const DefaultBatches kTrainingBatches = {{64}, {128, 512, 1024}};

struct Context {
  Exec& exec;
  int repeats;  // rounds whose median is reported
  PeerPython peer;
  Report& report;
  std::vector<int64_t> batches;  // of the training steps; empty: each bench's own
  std::string images;            // folder of JPEGs or shards; "": made ones
  double megabytes = 46;         // that are exchanged
  double gbit = 0;               // rate of the links in Gb/s; 0: not known

  bool on_cpu() const { return exec.device().kind == DeviceKind::kCpu; }
  const std::vector<int64_t>& batches_or(const DefaultBatches& own) const {
    if (!batches.empty()) return batches;
    return on_cpu() ? own.cpu : own.gpu;
  }
};

// The options every script of tools/peer takes: where it runs, with how many threads.
std::vector<std::string> peer_machine(const Context& context);

struct Bench {
  std::string_view name;
  std::string_view what;  // one line
  void (*run)(Context& context);
  bool cpu_only = false;
  bool only_if_named = false;
};

void run_pgd_step(Context& context);
void run_pgd_step_bf16(Context& context);
void run_pgd_step_mixed(Context& context);
void run_fgsm_rs_step(Context& context);
void run_wrn_step(Context& context);
void run_resnet50_step(Context& context);
void run_fused_pgd(Context& context);
void run_update(Context& context);
void run_perturbation(Context& context);
void run_norm(Context& context);
void run_save(Context& context);
void run_jpeg(Context& context);
void run_parity(Context& context);
void run_weights(Context& context);
void run_exchange(Context& context);
void run_compressors(Context& context);
void run_projection(Context& context);

}  // namespace ringfort::bench
