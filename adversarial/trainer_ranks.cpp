// What a training among several ranks does beside its steps: agrees that it is one training, shares
// out the images held out, brings running statistics together, and keeps what each rank alone knows
// in the states that rank 0 writes.
//
// Of a rank alone are its running statistics, until an epoch's end, and what its encodings have
// left out of its gradients so far. A state has both for every rank. Taken up by another number of
// ranks, statistics become the mean over the old ones, and so does what was left out: the sum over
// the ranks by their number, which is what the weights still miss, stays the same.
#include <xxhash.h>

#include "adversarial/trainer.h"
#include "engine/transfer.h"
#include "kernels/vector.h"

namespace ringfort {
namespace {

std::optional<Algorithm> parse_algorithm(const std::string& name) {
  if (name == "auto") return std::nullopt;
  for (const Algorithm algorithm : {Algorithm::kRing, Algorithm::kSra, Algorithm::kGather})
    if (name == to_string(algorithm)) return algorithm;
  fail("--exchange: there is no algorithm '{}'; known are auto, ring, sra, gather", name);
}

ReducerOptions reducer_options(const Recipe& recipe) {
  ReducerOptions options;
  options.compressor.name = recipe.compressor;
  options.compressor.bits = recipe.compressor_bits;
  options.compressor.bucket = recipe.compressor_bucket;
  options.compressor.norm = recipe.compressor_norm;
  options.compressor.share = recipe.compressor_share;
  options.compressor.rank = recipe.compressor_rank;
  if (recipe.error_feedback != "default")
    options.compressor.error_feedback = recipe.error_feedback == "true";
  options.algorithm = parse_algorithm(recipe.exchange);
  options.flat = recipe.hierarchy == "flat";
  options.bucket_bytes = static_cast<int64_t>(recipe.bucket_mb * (1 << 20));
  options.seed = recipe.seed;
  return options;
}

std::string of_rank(const char* name, int rank) { return fmt::format("{}.{}", name, rank); }

constexpr const char* kStatistics = "rank_statistics";
constexpr const char* kFeedback = "rank_feedback";

}  // namespace

void Trainer::join_ranks() {
  if (ranks() == 1) return;
  require(recipe_.hold_out == 0 || probe_images() >= ranks(),
          "train: {} held-out images are too few for {} ranks; raise --hold-out and "
          "--probe-samples, or hold none out",
          probe_images(), ranks());
  reducer_ = std::make_unique<Reducer>(exec_, *comm_, model_->params(), reducer_options(recipe_));
}

// All ranks must begin with the same bits; nothing brings them together later.
void Trainer::require_same_weights() {
  if (!reducer_) return;
  const std::vector<float> weights = to_vector<float>(exec_, model_->params().flat_master());
  const uint64_t hash = XXH3_64bits(weights.data(), weights.size() * sizeof(float));
  reducer_->run([&](Comm& comm) {
    comm.barrier(fmt::format("training from step {} with weights {:016x}", result_.steps, hash));
  });
}

std::span<const int64_t> Trainer::held_out_part(int64_t count) const {
  const int64_t first = count * rank() / ranks(), last = count * (rank() + 1) / ranks();
  return std::span(split_.held_out)
      .subspan(static_cast<size_t>(first), static_cast<size_t>(last - first));
}

double Trainer::share_of_all(double hits, double images, const char* what) {
  std::array<double, 2> sums = {hits, images};
  if (reducer_) reducer_->sum(sums, what);
  return sums[0] / sums[1];
}

// The mean over the ranks, for good: what is validated and saved is what training goes on with.
void Trainer::share_statistics() {
  const View statistics = model_->params().flat_statistics();
  if (!reducer_ || statistics.count() == 0) return;
  std::vector<float> values = to_vector<float>(exec_, statistics);
  std::vector<double> sums(values.begin(), values.end());
  reducer_->sum(sums, "running statistics");
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(sums[i] / ranks());
  to_device(exec_, statistics, values.data());
  synchronize(exec_);
  model_->params().statistics_changed();
}

// On rank 0 what it and the others have of their own; empty on these.
std::vector<std::pair<std::string, Tensor>> Trainer::state_of_ranks() {
  std::vector<std::pair<std::string, Tensor>> all;
  if (!reducer_) return all;
  const auto gather = [&](const char* name, const View& own) {
    const std::vector<float> mine = to_vector<float>(exec_, own);
    reducer_->run([&](Comm& comm) {
      comm.begin(fmt::format("{} for a state, {} of float32", name, mine.size()));
      std::vector<float> theirs(mine.size());
      for (int from = 0; from < comm.size(); ++from) {
        if (from != 0 && comm.rank() == from) {
          Comm::Message message = comm.send(0, std::as_bytes(std::span(mine)));
          comm.finish(message);
        }
        if (comm.rank() != 0) continue;
        if (from != 0) {
          Comm::Message message = comm.receive(from, std::as_writable_bytes(std::span(theirs)));
          comm.finish(message);
        }
        all.emplace_back(of_rank(name, from),
                         to_tensor<float>(exec_, pool_, own.shape, from == 0 ? mine : theirs));
      }
    });
  };
  gather(kStatistics, model_->params().flat_statistics());
  if (reducer_->feedback().data != nullptr) gather(kFeedback, reducer_->feedback());
  return all;
}

// What the state has for this rank, or where it is of another number of ranks, the mean.
void Trainer::resume_rank(const SafetensorsFile& file) {
  int saved = 0;
  while (file.contains(of_rank(kStatistics, saved))) ++saved;
  if (saved == 0) return;  // of a training without others: its statistics are read already
  const auto load = [&](const std::string& name, const View& view) {
    load_state(file, exec_.device(), std::vector<NamedView>{{name, view}});
  };
  const auto take = [&](const char* name, const View& to) {
    if (!file.contains(of_rank(name, 0))) return;
    if (saved == ranks()) return load(of_rank(name, rank()), to);
    const Tensor part(pool_, to.shape, to.dtype);
    clear(exec_, to);
    for (int from = 0; from < saved; ++from) {
      load(of_rank(name, from), part);
      add_scaled(exec_, to, part, 1.0f / static_cast<float>(saved));
    }
    synchronize(exec_);
  };
  take(kStatistics, model_->params().flat_statistics());
  const bool keeps = reducer_ && reducer_->feedback().data != nullptr;
  if (keeps) take(kFeedback, reducer_->feedback());
  if (reducer_)
    for (const NamedView& part : reducer_->common_state())
      if (file.contains(part.name)) load(part.name, part.view);
  if (saved == ranks()) return;
  resume_note_ = fmt::format(
      "the state is of {} ranks and goes on with {}: running statistics are the mean over those",
      saved, ranks());
  if (file.contains(of_rank(kFeedback, 0)))
    resume_note_ += keeps ? ", and so is what encodings had left out of gradients"
                          : "; what encodings had left out of gradients is dropped";
}

// "exchange per step: ...", of the steps since it was last asked.
std::string Trainer::exchange_text() {
  const ReducerStats stats = reducer_->take_stats();
  const double steps = static_cast<double>(std::max<int64_t>(stats.steps, 1));
  return fmt::format(
      "exchange per step: {:.3f} MB sent by a rank, {:.2f} ms encoding, {:.2f} ms decoding, {:.2f} "
      "ms "
      "waiting, of which training had to wait {:.2f} ms",
      static_cast<double>(stats.bytes_sent) / 1e6 / steps, 1e3 * stats.times.encode / steps,
      1e3 * stats.times.decode / steps, 1e3 * stats.times.wait / steps,
      1e3 * stats.exposed / steps);
}

}  // namespace ringfort
