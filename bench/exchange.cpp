// exchange: one sum of a gradient over the ranks of a job, as MPI does it, as plain messages around
// the ring take it, and by each encoding; beside the time of the bytes at the links' rate. Launch
// with mpirun; rank 0 reports what the slowest rank took.
#include "distributed/exchange.h"

#include <algorithm>
#include <chrono>

#include "bench/all_reduce.h"
#include "bench/bench.h"
#include "bench/timing.h"
#include "distributed/launch.h"
#include "distributed/ring.h"
#include "kernels/device_memory.h"

namespace ringfort::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kChunk = 2048;      // elements
constexpr size_t kMessage = 1 << 18;  // bytes, as an exchange cuts its segments

// Seconds of the slowest rank.
double timed_together(Comm& comm, const std::function<void()>& body) {
  comm.barrier("bench: start");
  const Clock::time_point start = Clock::now();
  body();
  const double own = std::chrono::duration<double>(Clock::now() - start).count();
  std::vector<double> all(static_cast<size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)),
                  "bench: times");
  return *std::max_element(all.begin(), all.end());
}

// The messages of a ring all-reduce of `bytes`, without anything to add up.
void pass_around(Comm& comm, std::vector<std::byte>& bytes, std::vector<std::byte>& received) {
  const RingPlan plan = ring_plan(comm.rank(), comm.size());
  const size_t segment = bytes.size() / static_cast<size_t>(comm.size());
  for (int step = 0; step < 2 * (comm.size() - 1); ++step) {
    comm.begin("bench: around the ring");
    std::vector<Comm::Message> messages;
    for (size_t at = 0; at < segment; at += kMessage) {
      const size_t length = std::min(kMessage, segment - at);
      messages.push_back(comm.receive(plan.from, std::span(received).subspan(at, length)));
      messages.push_back(comm.send(plan.to, std::span(bytes).subspan(at, length)));
    }
    for (Comm::Message& message : messages) comm.finish(message);
  }
}

struct Encoding {
  const char* name;
  Quantizer quantizer;
  Algorithm algorithm = Algorithm::kRing;
  double share = 1;  // of the elements
};

std::vector<Encoding> encodings() {
  const auto of = [](QuantizerKind kind, int bits = 0,
                     QuantizerScale scale = QuantizerScale::kMax) {
    return Quantizer::make(kind, bits, scale);
  };
  const Quantizer exact = of(QuantizerKind::kFloat32), half = of(QuantizerKind::kFloat16);
  const Quantizer natural = of(QuantizerKind::kNatural), int8 = of(QuantizerKind::kDithering, 8);
  const Quantizer int4 = of(QuantizerKind::kDithering, 4);
  const Quantizer sign = of(QuantizerKind::kSign, 0, QuantizerScale::kMean);
  return {{"float32, ring", exact},
          {"float32, sra", exact, Algorithm::kSra},
          {"float16, ring", half},
          {"natural, sra", natural, Algorithm::kSra},
          {"8-bit dithering, ring", int8},
          {"8-bit dithering, sra", int8, Algorithm::kSra},
          {"4-bit dithering, sra", int4, Algorithm::kSra},
          {"scaled sign, sra", sign, Algorithm::kSra},
          {"top 1 %, gather", exact, Algorithm::kGather, 0.01}};
}

std::unique_ptr<Codec> make_codec(const Context& context, const Encoding& encoding, int64_t count) {
  const std::vector<Piece> pieces = {{0, count}};
  const Device device = context.exec.device();
  if (encoding.share == 1) return make_quantizer_codec(device, pieces, encoding.quantizer, kChunk);
  const SparseOptions options{.share = encoding.share, .values = encoding.quantizer};
  return make_sparse_codec(device, pieces, options, kChunk);
}

// Milliseconds that so many bytes take at the links' rate; none where it is not told.
std::vector<Comparison> at_link_rate(const Context& context, double bytes) {
  if (context.gbit <= 0) return {};
  return {{.reference_name = "ms at the links' rate",
           .reference = bytes * 8 / (context.gbit * 1e6),
           .as_factor = true}};
}

void report_plain(Context& context, Comm& comm, int64_t bytes) {
  std::vector<float> values(static_cast<size_t>(bytes / 4), 1.0f);
  std::vector<std::byte> out(static_cast<size_t>(bytes)), in(out.size());
  std::vector<Timed> runs = {
      [&] { return timed_together(comm, [&] { pass_around(comm, out, in); }); }};
  if (has_mpi_all_reduce())
    runs.emplace_back([&] { return timed_together(comm, [&] { mpi_all_reduce(values); }); });
  const std::vector<double> seconds = medians_in_turns(context.repeats, runs);
  const double ranks = comm.size(), sent = 2 * (ranks - 1) / ranks * static_cast<double>(bytes);
  const char* const names[] = {"plain messages around the ring", "MPI_Allreduce, float32"};
  for (size_t i = seconds.size(); i-- > 0;)
    context.report.add({.name = names[i],
                        .value = 1e3 * seconds[i],
                        .unit = "ms",
                        .comparisons = at_link_rate(context, sent),
                        .remark = {}});
}

void report_encoding(Context& context, Comm& comm, const Encoding& encoding, int64_t count) {
  Pool pool(context.exec.device());
  const Tensor values = random_tensor(context.exec, pool, vector_shape(count), Dtype::kFloat32);
  const auto codec = make_codec(context, encoding, count);
  Exchange exchange(context.exec, comm);
  uint32_t call = 0;
  const auto run = [&] {
    const RandomKey key{1, Purpose::kCompress, ++call};
    exchange.all_reduce(*codec, {encoding.algorithm, values.as<float>(), nullptr, key});
    synchronize(context.exec);
  };
  run();  // makes connections and buffers
  const ExchangeTimes start = exchange.times();
  double sent = 0;
  const auto counted = [&] {
    const int64_t before = comm.traffic().bytes_sent;
    run();
    sent = static_cast<double>(comm.traffic().bytes_sent - before);
  };
  const double seconds =
      medians_in_turns(context.repeats, {[&] { return timed_together(comm, counted); }})[0];
  const double rounds = 1e-3 * context.repeats;
  const ExchangeTimes& end = exchange.times();
  context.report.add({.name = encoding.name,
                      .value = 1e3 * seconds,
                      .unit = "ms",
                      .comparisons = at_link_rate(context, sent),
                      .remark = fmt::format(
                          "{:.1f} MB sent, {:.0f} ms encoding, {:.0f} decoding, {:.0f} waiting",
                          sent / 1e6, (end.encode - start.encode) / rounds,
                          (end.decode - start.decode) / rounds, (end.wait - start.wait) / rounds)});
}

}  // namespace

void run_exchange(Context& context) {
  Comm comm(open_transport(CommKind::kAuto, read_launch(), context.exec, 60), {.deadline = 120});
  context.report.say(fmt::format("{} ranks, {}, {:.1f} MB", comm.size(), comm.transport().name(),
                                 context.megabytes));
  if (comm.size() == 1) {
    context.report.say("a single rank exchanges nothing; launch with mpirun -np N");
    return;
  }
  const auto count = static_cast<int64_t>(context.megabytes * 1e6 / 4);
  if (!comm.transport().on_device()) report_plain(context, comm, 4 * count);
  for (const Encoding& encoding : encodings()) report_encoding(context, comm, encoding, count);
}

}  // namespace ringfort::bench
