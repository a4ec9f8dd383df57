// compressors: encoding and decoding 4 million numbers in every encoding, beside a copy; and
// projection: what a DAT step of resnet50 takes on 8 to 1024 ranks by the cost model of
// docs/distributed.md, from the times of encodings just measured. A projection is no measurement,
// and says so.
#include "bench/bandwidth.h"
#include "bench/timing.h"
#include "distributed/compressor.h"
#include "kernels/device_memory.h"

namespace ringfort::bench {
namespace {

constexpr int64_t kElements = 1 << 22;
constexpr double kGpuGoal = 0.7;  // of the copy's bandwidth; a CPU's cores compute for longer

struct Encoding {
  const char* name;
  int bits = 0;
};
constexpr Encoding kEncodings[] = {{"none"},    {"fp16"},     {"bf16"},    {"qsgd"},
                                   {"qsgd", 4}, {"terngrad"}, {"natural"}, {"natural-dithering"},
                                   {"ef-sign"}, {"top-k"},    {"random-k"}};

Compressor compressor_of(const Encoding& encoding) {
  CompressorOptions options;
  options.name = encoding.name;
  options.bits = encoding.bits;
  return Compressor(options);
}

// A gradient, its encoding and what is kept, on the device.
struct Work {
  explicit Work(Exec& exec_in, const Compressor& compressor)
      : exec(exec_in),
        pool(exec_in.device()),
        codec(compressor.make_codec(exec_in.device(), std::vector<Piece>{{0, kElements}})),
        values(random_tensor(exec_in, pool, vector_shape(kElements), Dtype::kFloat32)),
        residual(pool, vector_shape(kElements), Dtype::kFloat32),
        wire(pool, vector_shape(codec->bytes()), Dtype::kUint8) {}

  void encode() {
    EncodeCall call{{0, codec->chunks()}, values.as<float>(), wire.as<std::byte>()};
    call.residual = residual.as<float>();
    call.key = {1, Purpose::kCompress, ++step};
    codec->encode(exec, call);
  }
  void decode() {
    codec->decode(exec, {{0, codec->chunks()},
                         wire.as<std::byte>(),
                         residual.as<float>(),
                         false,
                         {1, Purpose::kCompress, step},
                         0});
  }

  Exec& exec;
  Pool pool;
  std::unique_ptr<Codec> codec;
  Tensor values, residual, wire;
  uint32_t step = 0;
};

struct Cost {
  double encode = 0, decode = 0;  // seconds per element
};

Cost measured_cost(Context& context, const Encoding& encoding) {
  Work work(context.exec, compressor_of(encoding));
  const auto per_element = [&](const std::function<void()>& fn) {
    const int calls = calls_lasting(context.exec, 0.05, fn);
    return medians_in_turns(context.repeats, {timed(context.exec, fn, calls)})[0] /
           static_cast<double>(kElements);
  };
  work.encode();
  return {per_element([&] { work.encode(); }), per_element([&] { work.decode(); })};
}

}  // namespace

void run_compressors(Context& context) {
  const std::optional<double> goal =
      context.on_cpu() ? std::nullopt : std::optional<double>(kGpuGoal);
  for (const Encoding& encoding : kEncodings) {
    const Compressor compressor = compressor_of(encoding);
    Work work(context.exec, compressor);
    const auto wire = static_cast<double>(work.codec->bytes());
    const double numbers = 4.0 * static_cast<double>(kElements);
    // Values are read and what is left out written; the encoding is written, then read.
    report_bandwidth(context, nullptr,
                     {fmt::format("{}: encode", compressor.describe()), [&] { work.encode(); },
                      2 * numbers + wire, ""},
                     goal);
    report_bandwidth(context, nullptr,
                     {fmt::format("{}: decode, {:.2f} bits per element", compressor.name(),
                                  8 * wire / static_cast<double>(kElements)),
                      [&] { work.decode(); }, numbers + wire, ""},
                     goal);
  }
}

// Of a step in which a rank computes for so many milliseconds, with what is exposed of the exchange
// where nothing of it is hidden: an upper bound.
void run_projection(Context& context) {
  constexpr int64_t kResNet50 = 25557032;  // parameters
  constexpr double kStep =
      0.35;  // seconds; of PGD-4 DAT, 64 images a rank, on a device that takes it
  const double gbit = context.gbit > 0 ? context.gbit : 25;
  const Link link{20e-6, gbit * 1e9 / 8};
  context.report.say(fmt::format(
      "PROJECTION, not measured: resnet50, {} Gb/s and {:.0f} us between ranks, {:.0f} ms "
      "of computing per step and rank assumed; encodings as measured on this machine",
      gbit, 1e6 * link.latency, 1e3 * kStep));
  for (const Encoding& encoding : kEncodings) {
    const Compressor compressor = compressor_of(encoding);
    const Cost cost = measured_cost(context, encoding);
    const int64_t bytes = compressor.bytes(kResNet50);
    for (const int ranks : {8, 32, 128, 512, 1024}) {
      const Algorithm algorithm = choose_algorithm(compressor, ranks, kResNet50, link);
      const double share = algorithm == Algorithm::kGather ? ranks : 2;  // of the gradient, decoded
      const double coding =
          static_cast<double>(kResNet50) * (2 * cost.encode + share * cost.decode);
      const double wire = transfer_seconds(algorithm, ranks, bytes, link);
      context.report.add(
          {.name = fmt::format("{}{}, {} ranks, {}", encoding.name,
                               encoding.bits > 0 ? " of 4 bits" : "", ranks, to_string(algorithm)),
           .value = 1e3 * (kStep + wire + coding),
           .unit = "ms per step",
           .comparisons = {},
           .remark = fmt::format("projected: {:.0f} ms on the wire, {:.0f} ms coding", 1e3 * wire,
                                 1e3 * coding)});
    }
  }
}

}  // namespace ringfort::bench
