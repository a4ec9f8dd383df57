// Exchanges between ranks that are threads: plans, sums, the same bits everywhere, what error
// feedback may rely on, and how errors grow with the ranks.
#include "distributed/exchange.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "distributed/ring.h"
#include "distributed/thread_transport.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::random_vector;

constexpr std::array kAlgorithms = {Algorithm::kRing, Algorithm::kSra, Algorithm::kGather};

struct RankResult {
  std::vector<float> sum, residual;
  int64_t bytes_sent = 0;
};

struct Job {
  Quantizer quantizer = Quantizer::make(QuantizerKind::kFloat32);
  int64_t longest = 64;
  Algorithm algorithm = Algorithm::kRing;
  int parts = 0;
  uint64_t seed = 1;
};

// given[r]: what rank r brings.
std::vector<RankResult> exchanged(const std::vector<std::vector<float>>& given,
                                  const std::vector<Piece>& pieces, const Job& job) {
  std::vector<RankResult> results(given.size());
  run_ranks(static_cast<int>(given.size()), [&](std::unique_ptr<Transport> transport) {
    Comm comm(std::move(transport));
    const auto rank = static_cast<size_t>(comm.rank());
    Exec exec({}, 1);
    Exchange exchange(exec, comm, job.parts);
    const auto codec = make_quantizer_codec({}, pieces, job.quantizer, job.longest);
    RankResult& result = results[rank];
    result.sum = given[rank];
    result.residual.assign(given[rank].size(), 99.0f);
    exchange.all_reduce(*codec, {job.algorithm, result.sum.data(), result.residual.data(),
                                 RandomKey{job.seed, Purpose::kCompress, 3}});
    result.bytes_sent = comm.traffic().bytes_sent;
  });
  return results;
}

std::vector<std::vector<float>> integers(int ranks, int64_t length) {
  std::vector<std::vector<float>> given;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto drawn = testing::random_integers(length, static_cast<uint64_t>(rank) + 1, -50, 50);
    given.emplace_back(drawn.begin(), drawn.end());
  }
  return given;
}

std::vector<double> plain_sum(const std::vector<std::vector<float>>& given) {
  std::vector<double> sum(given[0].size());
  for (const std::vector<float>& values : given)
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(values[i]);
  return sum;
}

TEST_CASE("ring: every segment goes once around and ends with its owner", "[exchange]") {
  for (int ranks = 1; ranks <= 9; ++ranks) {
    std::vector<RingPlan> plans;
    std::set<int> owners;
    for (int rank = 0; rank < ranks; ++rank) {
      plans.push_back(ring_plan(rank, ranks));
      owners.insert(plans.back().owned);
      CHECK(std::ssize(plans.back().reduce_scatter) == ranks - 1);
    }
    CHECK(std::ssize(owners) == ranks);
    // holds[r][s]: how many shares of segment s rank r has added up.
    std::vector<std::vector<int>> holds(static_cast<size_t>(ranks),
                                        std::vector<int>(static_cast<size_t>(ranks), 1));
    const auto at = [&](int rank, int segment) -> int& {
      return holds[static_cast<size_t>(rank)][static_cast<size_t>(segment)];
    };
    for (const bool reduces : {true, false})
      for (int step = 0; step + 1 < ranks; ++step) {
        const auto before = holds;
        for (int rank = 0; rank < ranks; ++rank) {
          const RingPlan& plan = plans[static_cast<size_t>(rank)];
          const RingPlan& left = plans[static_cast<size_t>(plan.from)];
          const auto& steps = reduces ? plan.reduce_scatter : plan.all_gather;
          const auto& of_left = reduces ? left.reduce_scatter : left.all_gather;
          const int segment = steps[static_cast<size_t>(step)].receive;
          CHECK(left.to == rank);
          CHECK(of_left[static_cast<size_t>(step)].send == segment);
          const int came = before[static_cast<size_t>(plan.from)][static_cast<size_t>(segment)];
          at(rank, segment) = reduces ? at(rank, segment) + came : came;
        }
        if (reduces && step + 2 == ranks)
          for (int rank = 0; rank < ranks; ++rank)
            CHECK(at(rank, plans[static_cast<size_t>(rank)].owned) == ranks);
      }
    for (const std::vector<int>& of_rank : holds)
      for (const int shares : of_rank) CHECK(shares == ranks);
  }
}

TEST_CASE("ring: cuts cover everything in order and are about equal", "[exchange]") {
  CHECK(balanced_cuts({}, 3) == std::vector<int64_t>{0, 0, 0, 0});
  CHECK(balanced_cuts({10}, 2).back() == 1);
  std::vector<int64_t> ends;
  for (int64_t i = 1; i <= 1000; ++i) ends.push_back(7 * i);
  for (int parts = 1; parts <= 9; ++parts) {
    const auto cuts = balanced_cuts(ends, parts);
    for (size_t i = 0; i + 1 < cuts.size(); ++i)
      CHECK(std::abs(static_cast<double>(cuts[i + 1] - cuts[i]) - 1000.0 / parts) <= 2);
  }
}

TEST_CASE("exchange: sums of integers are exact for all ranks and lengths", "[exchange]") {
  for (int ranks = 1; ranks <= 9; ++ranks)
    for (const int64_t length : {0, 1, 7, 1000, 100003})
      for (const Algorithm algorithm : kAlgorithms) {
        if (length > 1000 && ranks % 4 != 1) continue;
        CAPTURE(ranks, length, to_string(algorithm));
        const auto given = integers(ranks, length);
        Job job;
        job.algorithm = algorithm;
        job.longest = 4096;
        job.parts = length > 1000 ? 0 : 3;
        const auto results = exchanged(given, {{0, length}}, job);
        const auto expected = plain_sum(given);
        for (const RankResult& result : results)
          CHECK(std::equal(expected.begin(), expected.end(), result.sum.begin(),
                           [](double a, float b) { return a == static_cast<double>(b); }));
      }
}

TEST_CASE("exchange: what lies between the pieces stays as it is", "[exchange]") {
  for (const Algorithm algorithm : kAlgorithms) {
    const auto given = integers(3, 100);
    Job job;
    job.algorithm = algorithm;
    job.longest = 8;
    const auto results = exchanged(given, {{10, 20}, {40, 3}, {60, 39}}, job);
    const auto sum = plain_sum(given);
    for (size_t rank = 0; rank < 3; ++rank)
      for (size_t i = 0; i < 100; ++i) {
        const bool inside = (i >= 10 && i < 30) || (i >= 40 && i < 43) || (i >= 60 && i < 99);
        CHECK(static_cast<double>(results[rank].sum[i]) ==
              (inside ? sum[i] : static_cast<double>(given[rank][i])));
      }
  }
}

std::vector<std::vector<float>> gaussian(int ranks, int64_t length, double shared, uint64_t seed) {
  const auto draw = [&](uint64_t stream) {
    const auto a = random_vector(length, seed * 1000 + 2 * stream, 0, 1);
    const auto b = random_vector(length, seed * 1000 + 2 * stream + 1, 0, 1);
    std::vector<double> values(a.size());
    for (size_t i = 0; i < a.size(); ++i)
      values[i] = std::sqrt(-2 * std::log(a[i])) * std::cos(2 * M_PI * b[i]);
    return values;
  };
  const auto common = draw(0);
  std::vector<std::vector<float>> given;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto own = draw(static_cast<uint64_t>(rank) + 1);
    given.emplace_back();
    for (size_t i = 0; i < own.size(); ++i)
      given.back().push_back(
          static_cast<float>(std::sqrt(shared) * common[i] + std::sqrt(1 - shared) * own[i]));
  }
  return given;
}

std::vector<std::pair<const char*, Quantizer>> lossy() {
  using K = QuantizerKind;
  return {{"8 bits", Quantizer::make(K::kDithering, 8)},
          {"ternary", Quantizer::make(K::kDithering, 2, QuantizerScale::kClippedMax)},
          {"natural", Quantizer::make(K::kNatural)},
          {"natural dithering", Quantizer::make(K::kNaturalDithering, 4)},
          {"float16", Quantizer::make(K::kFloat16)},
          {"bfloat16", Quantizer::make(K::kBFloat16)},
          {"sign of the mean", Quantizer::make(K::kSign, 1, QuantizerScale::kMean)}};
}

TEST_CASE("exchange: every rank has the same bits whatever the encoding", "[exchange]") {
  for (const auto& [name, quantizer] : lossy())
    for (const Algorithm algorithm : kAlgorithms)
      for (const int ranks : {2, 3, 8}) {
        CAPTURE(name, to_string(algorithm), ranks);
        const auto results = exchanged(gaussian(ranks, 1000, 0, 5), {{0, 700}, {704, 296}},
                                       {quantizer, 64, algorithm});
        for (const RankResult& result : results)
          CHECK(std::equal(result.sum.begin(), result.sum.begin() + 700, results[0].sum.begin()));
        for (const RankResult& result : results)
          CHECK(
              std::equal(result.sum.begin() + 704, result.sum.end(), results[0].sum.begin() + 704));
      }
}

// What error feedback lives by: nothing is lost but what some rank has kept.
TEST_CASE("exchange: sums and residuals together are what the ranks brought", "[exchange]") {
  for (const auto& [name, quantizer] : lossy())
    for (const Algorithm algorithm : kAlgorithms)
      for (const int ranks : {2, 5, 8}) {
        CAPTURE(name, to_string(algorithm), ranks);
        const auto given = gaussian(ranks, 500, 0.3, 7);
        const auto results = exchanged(given, {{0, 500}}, {quantizer, 64, algorithm, 2});
        const auto brought = plain_sum(given);
        double worst = 0;
        for (size_t i = 0; i < 500; ++i) {
          double kept = static_cast<double>(results[0].sum[i]);
          for (const RankResult& result : results) kept += static_cast<double>(result.residual[i]);
          worst = std::max(worst, std::abs(kept - brought[i]));
        }
        CHECK(worst < 2e-5);
      }
}

double relative_squared_error(const std::vector<float>& sum, const std::vector<double>& exact) {
  double error = 0, energy = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double difference = static_cast<double>(sum[i]) - exact[i];
    error += difference * difference;
    energy += exact[i] * exact[i];
  }
  return error / energy;
}

TEST_CASE("exchange: errors grow with the hops of a ring and not in a scatter-reduce",
          "[exchange]") {
  const auto natural = Quantizer::make(QuantizerKind::kNatural);
  const auto error = [&](const Quantizer& q, Algorithm algorithm, int ranks, double shared) {
    const auto given = gaussian(ranks, 20000, shared, 11);
    return relative_squared_error(exchanged(given, {{0, 20000}}, {q, 512, algorithm})[0].sum,
                                  plain_sum(given));
  };
  // The figures are those of a simulation that shares no code with this.
  CHECK(error(natural, Algorithm::kRing, 4, 0) == Approx(0.225).margin(0.02));
  CHECK(error(natural, Algorithm::kRing, 8, 0) == Approx(0.394).margin(0.03));
  CHECK(error(natural, Algorithm::kSra, 8, 0) == Approx(0.158).margin(0.01));
  CHECK(error(natural, Algorithm::kGather, 8, 0) == Approx(0.081).margin(0.006));
  CHECK(error(natural, Algorithm::kRing, 8, 0.5) == Approx(0.312).margin(0.03));
  CHECK(error(natural, Algorithm::kSra, 8, 0.5) == Approx(0.100).margin(0.01));
  CHECK(error(natural, Algorithm::kGather, 8, 0.5) == Approx(0.018).margin(0.002));
  const auto four_bits = Quantizer::make(QuantizerKind::kDithering, 4);
  CHECK(error(four_bits, Algorithm::kRing, 8, 0) == Approx(0.175).margin(0.015));
  CHECK(error(four_bits, Algorithm::kSra, 8, 0) == Approx(0.069).margin(0.006));
  CHECK(error(four_bits, Algorithm::kGather, 8, 0) == Approx(0.037).margin(0.003));
}

TEST_CASE("exchange: what goes over the wire is what the encoding says", "[exchange]") {
  const auto natural = Quantizer::make(QuantizerKind::kNatural);
  CHECK(natural.bytes(512) == 512 / 8 * 9);
  const int ranks = 4;
  const int64_t all = natural.bytes(512) * 8;
  const auto sent = [&](Algorithm algorithm) {
    int64_t bytes = 0;
    for (const RankResult& result :
         exchanged(gaussian(ranks, 4096, 0, 1), {{0, 4096}}, {natural, 512, algorithm}))
      bytes += result.bytes_sent;
    return bytes;
  };
  CHECK(sent(Algorithm::kRing) == 2 * (ranks - 1) * all);
  CHECK(sent(Algorithm::kSra) == 2 * (ranks - 1) * all);
  CHECK(sent(Algorithm::kGather) == ranks * (ranks - 1) * all);
}

TEST_CASE("exchange: reruns are bit-identical and other keys give other numbers", "[exchange]") {
  const auto given = gaussian(3, 300, 0, 2);
  Job job{Quantizer::make(QuantizerKind::kDithering, 4)};
  const auto first = exchanged(given, {{0, 300}}, job), again = exchanged(given, {{0, 300}}, job);
  job.seed = 2;
  const auto other = exchanged(given, {{0, 300}}, job);
  CHECK(first[0].sum == again[0].sum);
  CHECK(first[0].sum != other[0].sum);
}

}  // namespace
}  // namespace ringfort
