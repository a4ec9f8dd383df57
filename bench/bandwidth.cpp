#include "bench/bandwidth.h"

#include "bench/timing.h"

namespace ringfort::bench {

void report_bandwidth(Context& context, Peer* peer, const BandwidthCase& bandwidth_case,
                      std::optional<double> goal) {
  constexpr double kSecondsPerTurn = 0.05;
  const double bytes = bandwidth_case.bytes;
  Exec& exec = context.exec;
  Pool pool(exec.device());
  MemoryCopy copy(exec, pool, static_cast<int64_t>(bytes));
  const std::function<void()> run_copy = [&] { copy.run(); };
  std::vector<Timed> turns = {
      timed(exec, bandwidth_case.run, calls_lasting(exec, kSecondsPerTurn, bandwidth_case.run)),
      timed(exec, run_copy, calls_lasting(exec, kSecondsPerTurn, run_copy))};
  const bool with_peer = peer != nullptr && !bandwidth_case.peer_question.empty();
  if (with_peer) turns.push_back([&] { return peer->seconds(bandwidth_case.peer_question); });
  const std::vector<double> seconds = medians_in_turns(2 * context.repeats + 1, turns);

  Figure figure{bandwidth_case.figure, bytes / seconds[0] / 1e9, "GB/s", {}, ""};
  figure.comparisons.push_back({.reference_name = "copy",
                                .reference = static_cast<double>(copy.moved()) / seconds[1] / 1e9,
                                .goal = goal});
  if (with_peer)
    figure.comparisons.push_back({.reference_name = "PyTorch " + peer->torch_version(),
                                  .reference = bytes / seconds[2] / 1e9,
                                  .as_factor = true});
  else if (peer == nullptr)
    figure.remark = PeerPython::kMissing;
  context.report.add(figure);
}

}  // namespace ringfort::bench
