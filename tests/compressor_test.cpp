// Compressors as recipes name them: what each is, what its messages weigh, what it refuses; and the
// reducer: gradients of ranks added up while they come, with every compressor.
#include "distributed/compressor.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "distributed/reducer.h"
#include "distributed/thread_transport.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::random_vector;

CompressorOptions named(const char* name) {
  CompressorOptions options;
  options.name = name;
  return options;
}

const std::vector<const char*> kAll = {
    "none",      "fp16",         "bf16",  "qsgd",     "natural",       "natural-dithering",
    "ef-sign",   "terngrad",     "top-k", "random-k", "top-k+natural", "random-k+qsgd",
    "power-sgd", "sign-majority"};

}  // namespace

TEST_CASE("compressor: what travels of a million elements", "[compressor]") {
  const auto bytes = [](CompressorOptions options) { return Compressor(options).bytes(1 << 20); };
  const int64_t n = 1 << 20;
  CHECK(bytes(named("none")) == 4 * n);
  CHECK(bytes(named("bf16")) == 2 * n);
  CHECK(bytes(named("fp16")) == 2 * n + n / 4096 * 4);
  CHECK(bytes(named("qsgd")) == n + n / 512 * 4);
  CHECK(bytes(named("natural")) == n / 8 * 9);
  CHECK(bytes(named("natural-dithering")) == n / 2 + n / 512 * 4);
  CHECK(bytes(named("terngrad")) == n / 4 + n / 4096 * 4);
  CHECK(bytes(named("ef-sign")) == n / 8 + n / 2048 * 4);
  CHECK(bytes(named("top-k")) == n / 16384 * 164 * (4 + 2));
  CHECK(bytes(named("random-k")) == n / 16384 * 164 * 4);
  CHECK(bytes(named("top-k+natural")) == n / 16384 * (164 * 2 + 164 / 8 * 9 + 4 + 1));
  CompressorOptions options = named("qsgd");
  options.bits = 4;
  options.bucket = 128;
  CHECK(bytes(options) == n / 2 + n / 128 * 4);
}

TEST_CASE("compressor: facts that algorithms are chosen by", "[compressor]") {
  CHECK(Compressor(named("none")).unbiased());
  CHECK(Compressor(named("natural")).error_bound() == 0.125);
  CHECK_FALSE(Compressor(named("natural")).error_feedback());
  for (const char* name : {"top-k", "random-k", "ef-sign", "power-sgd"}) {
    CAPTURE(name);
    CHECK(Compressor(named(name)).needs_error_feedback());
    CHECK(Compressor(named(name)).error_feedback());
  }
  CompressorOptions lots = named("random-k");
  lots.error_feedback = false;
  CHECK(Compressor(lots).unbiased());
  CHECK(Compressor(lots).error_bound() == Approx(99));
  const Link link{50e-6, 125e6};
  // A ring for what loses next to nothing at each hop, a scatter-reduce for the others, and
  // everybody to everybody for what is much smaller than its ranks are many.
  CHECK(choose_algorithm(Compressor(named("none")), 8, 1 << 22, link) == Algorithm::kRing);
  CHECK(choose_algorithm(Compressor(named("natural")), 8, 1 << 22, link) == Algorithm::kSra);
  CHECK(choose_algorithm(Compressor(named("bf16")), 8, 1 << 22, link) == Algorithm::kRing);
  CHECK(choose_algorithm(Compressor(named("top-k")), 8, 1 << 10, link) == Algorithm::kGather);
  CHECK(transfer_seconds(Algorithm::kRing, 4, 46000000, {0, 125e6}) == Approx(0.552));
  CHECK(transfer_seconds(Algorithm::kGather, 4, 46000000, {0, 125e6}) == Approx(3 * 0.368));
}

TEST_CASE("compressor: what does not fit together is refused in a sentence", "[compressor]") {
  CHECK_THROWS_WITH(Compressor(named("zip")), Catch::Contains("no compressor 'zip'") &&
                                                  Catch::Contains("sign-majority, ef-sign"));
  CHECK_THROWS_WITH(Compressor(named("qsgd+natural")), Catch::Contains("nothing can follow qsgd"));
  CHECK_THROWS_WITH(Compressor(named("top-k+random-k")), Catch::Contains("cannot follow top-k"));
  CompressorOptions bits = named("natural");
  bits.bits = 4;
  CHECK_THROWS_WITH(Compressor(bits), Catch::Contains("--compressor-bits"));
  CompressorOptions votes = named("sign-majority");
  votes.error_feedback = true;
  CHECK_THROWS_WITH(Compressor(votes), Catch::Contains("ef-sign"));
  CHECK_THROWS_WITH(require_allowed(Compressor(named("top-k")), Algorithm::kRing),
                    Catch::Contains("take sra or gather"));
}

// --- the reducer ---

namespace {

// Filters, norms and biases of a small network, as a store that no model belongs to.
void add_parameters(ParamStore& params) {
  params.add("first.weight", {8, 3, 3, 3}, ParamKind::kConvWeight);
  params.add("first.scale", vector_shape(8), ParamKind::kNormScale);
  params.add("second.weight", {32, 3, 3, 16}, ParamKind::kConvWeight);
  params.add("second.shift", vector_shape(32), ParamKind::kNormShift);
  params.add("last.weight", {10, 1, 1, 512}, ParamKind::kLinearWeight);
  params.add("last.bias", vector_shape(10), ParamKind::kBias);
  params.allocate();
}

std::vector<float> gradient_of(int rank, int step, int64_t count) {
  const auto drawn =
      random_vector(count, 1000 * static_cast<uint64_t>(rank + 1) + static_cast<uint64_t>(step));
  return {drawn.begin(), drawn.end()};
}

struct Reduced {
  std::vector<std::vector<float>> gradients;  // by step
  std::vector<float> error;
  double total = 0;
  ReducerStats stats;
  std::string description;
};

std::vector<Reduced> reduced(int ranks, const ReducerOptions& options, int steps,
                             const std::vector<double>& lr = {}) {
  std::vector<Reduced> results(static_cast<size_t>(ranks));
  run_ranks(ranks, [&](std::unique_ptr<Transport> transport) {
    Comm comm(std::move(transport));
    Exec exec({}, 1);
    ParamStore params;
    add_parameters(params);
    Reducer reducer(exec, comm, params, options);
    Reduced& result = results[static_cast<size_t>(comm.rank())];
    result.description = reducer.describe();
    auto* const gradient = params.flat_gradient().as<float>();
    const int64_t count = params.flat_gradient().count();
    for (int step = 0; step < steps; ++step) {
      const std::vector<float> own = gradient_of(comm.rank(), step, count);
      reducer.begin(step, lr.empty() ? 0.1 : lr[static_cast<size_t>(step)]);
      // As a pass does: complete, announce, go on.
      for (const ParamId id : params.in_memory_order()) {
        const Segment& segment = params.segment(id);
        std::copy_n(own.begin() + segment.offset, segment.shape.count(), gradient + segment.offset);
        reducer.ready(id);
      }
      double total = comm.rank() + 1;
      reducer.finish({&total, 1});
      result.total = total;
      result.gradients.emplace_back(gradient, gradient + count);
    }
    if (reducer.feedback().data != nullptr) {
      const auto* error = reducer.feedback().as<float>();
      result.error.assign(error, error + count);
    }
    result.stats = reducer.take_stats();
  });
  return results;
}

ReducerOptions small_buckets(const char* name) {
  ReducerOptions options;
  options.compressor = named(name);
  options.compressor.bucket =
      std::string(name) == "none" || std::string(name) == "power-sgd" ? 0 : 256;
  options.compressor.share = 0.1;
  options.bucket_bytes = 8192;
  return options;
}

// The sum of what ranks bring at a step.
std::vector<double> brought(int ranks, int step, int64_t count) {
  std::vector<double> sum(static_cast<size_t>(count));
  for (int rank = 0; rank < ranks; ++rank) {
    const std::vector<float> own = gradient_of(rank, step, count);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(own[i]);
  }
  return sum;
}

// Elements of parameters, not of the room between them.
std::vector<bool> inside() {
  ParamStore params;
  add_parameters(params);
  std::vector<bool> is(static_cast<size_t>(params.flat_gradient().count()));
  for (const Segment& segment : params.segments())
    for (int64_t i = 0; i < segment.shape.count(); ++i)
      is[static_cast<size_t>(segment.offset + i)] = true;
  return is;
}

}  // namespace

TEST_CASE("reducer: without compression the gradient is the sum and so are the totals",
          "[compressor]") {
  const std::vector<bool> is = inside();
  for (const int ranks : {1, 2, 3, 4}) {
    const auto results = reduced(ranks, small_buckets("none"), 2);
    const std::vector<std::vector<double>> sums = {brought(ranks, 0, std::ssize(is)),
                                                   brought(ranks, 1, std::ssize(is))};
    for (const Reduced& result : results) {
      CHECK(result.total == ranks * (ranks + 1) / 2);
      for (int step = 0; step < 2; ++step)
        for (size_t i = 0; i < is.size(); ++i) {
          const double sum = sums[static_cast<size_t>(step)][i];
          if (is[i] &&
              std::abs(static_cast<double>(result.gradients[static_cast<size_t>(step)][i]) - sum) >
                  1e-6)
            FAIL("element " << i << " of step " << step);
        }
    }
  }
}

TEST_CASE("reducer: all ranks have the same bits and none of them loses anything", "[compressor]") {
  const std::vector<bool> is = inside();
  const int ranks = 3, steps = 3;
  for (const char* name : kAll) {
    CAPTURE(name);
    const auto results = reduced(ranks, small_buckets(name), steps);
    for (const Reduced& result : results) CHECK(result.gradients == results[0].gradients);
    if (results[0].error.empty()) continue;
    // Over all steps: what came out and what is still kept is what went in.
    std::vector<double> lost(is.size());
    for (int step = 0; step < steps; ++step) {
      const std::vector<double> in = brought(ranks, step, std::ssize(is));
      for (size_t i = 0; i < is.size(); ++i)
        lost[i] += in[i] - static_cast<double>(results[0].gradients[static_cast<size_t>(step)][i]);
    }
    double worst = 0;
    for (size_t i = 0; i < is.size(); ++i) {
      for (const Reduced& result : results) lost[i] -= static_cast<double>(result.error[i]);
      if (is[i]) worst = std::max(worst, std::abs(lost[i]));
    }
    CHECK(worst < 2e-5);
  }
}

TEST_CASE("reducer: norms and biases travel as they are whatever the compressor", "[compressor]") {
  ParamStore params;
  add_parameters(params);
  const auto exact = reduced(2, small_buckets("none"), 1)[0].gradients[0];
  for (const char* name : {"ef-sign", "top-k", "power-sgd", "sign-majority"}) {
    CAPTURE(name);
    const auto results = reduced(2, small_buckets(name), 1);
    for (const Segment& segment : params.segments()) {
      const bool whole = !is_weight(segment.kind) || segment.shape.count() < 1024;
      bool same = true;
      for (int64_t i = segment.offset; i < segment.offset + segment.shape.count(); ++i)
        same = same &&
               results[0].gradients[0][static_cast<size_t>(i)] == exact[static_cast<size_t>(i)];
      CHECK(same == whole);
    }
  }
}

TEST_CASE("reducer: what is kept is weighed by the old learning rate over the new",
          "[compressor]") {
  ReducerOptions options = small_buckets("top-k");
  const auto half = reduced(2, options, 2, {0.1, 0.2}), same = reduced(2, options, 2, {0.1, 0.1});
  const auto first = reduced(2, options, 1);
  // In weights, lr times gradient, nothing is lost: lr_2 (out_2 + error_2) = lr_2 in_2 + lr_1
  // error_1.
  const std::vector<bool> is = inside();
  const std::vector<double> second = brought(2, 1, std::ssize(is));
  double worst = 0;
  for (size_t i = 0; i < is.size(); ++i) {
    double lost = 0.2 * (second[i] - static_cast<double>(half[0].gradients[1][i]));
    for (const size_t rank : {0, 1})
      lost += 0.1 * static_cast<double>(first[rank].error[i]) -
              0.2 * static_cast<double>(half[rank].error[i]);
    if (is[i]) worst = std::max(worst, std::abs(lost));
  }
  CHECK(worst < 1e-5);
  CHECK(half[0].gradients[1] != same[0].gradients[1]);
}

TEST_CASE("reducer: a majority vote is the sign of most and ties have no side", "[compressor]") {
  for (const Algorithm algorithm : {Algorithm::kSra, Algorithm::kGather})
    for (const int ranks : {3, 4}) {
      ReducerOptions options = small_buckets("sign-majority");
      options.algorithm = algorithm;
      const auto results = reduced(ranks, options, 1);
      ParamStore params;
      add_parameters(params);
      const Segment& weight = params.segments()[2];
      std::vector<std::vector<float>> given;
      for (int rank = 0; rank < ranks; ++rank)
        given.push_back(gradient_of(rank, 0, params.flat_gradient().count()));
      int ties = 0, positive = 0;
      for (int64_t i = weight.offset; i < weight.offset + weight.shape.count(); ++i) {
        int votes = 0;
        for (const std::vector<float>& own : given)
          votes += own[static_cast<size_t>(i)] > 0 ? 1 : -1;
        const float voted = results[0].gradients[0][static_cast<size_t>(i)];
        if (votes != 0 && voted != (votes > 0 ? 1.0f : -1.0f)) FAIL("element " << i);
        ties += votes == 0;
        positive += votes == 0 && voted == 1;
      }
      CHECK((ranks % 2 == 0) == (ties > 0));
      // 5 standard deviations
      CHECK(std::abs(positive - ties / 2.0) <= 2.5 * std::sqrt(static_cast<double>(ties)) + 1);
    }
}

TEST_CASE("reducer: a low rank is found again exactly and kept from step to step", "[compressor]") {
  run_ranks(3, [&](std::unique_ptr<Transport> transport) {
    Comm comm(std::move(transport));
    Exec exec({}, 1);
    Exchange exchange(exec, comm);
    // Rank r brings (r + 1) u v^T: the sum is 6 u v^T, of rank 1.
    const int64_t rows = 20, columns = 50;
    const auto u = random_vector(rows, 1), v = random_vector(columns, 2);
    PowerSgd low_rank(exec, {{4, rows, columns}}, 2, 7);
    std::vector<float> values(4 + rows * columns), residual(values.size());
    const auto at = [&](int64_t i, int64_t j) -> float& {
      return values[static_cast<size_t>(4 + i * columns + j)];
    };
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        at(i, j) = static_cast<float>((comm.rank() + 1) * u[static_cast<size_t>(i)] *
                                      v[static_cast<size_t>(j)]);
    low_rank.all_reduce(exchange, exec, values.data(), residual.data(), "a test");
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const double expected = 6 * u[static_cast<size_t>(i)] * v[static_cast<size_t>(j)];
        require(std::abs(static_cast<double>(at(i, j)) - expected) < 1e-4, "({}, {}): {}, not {}",
                i, j, at(i, j), expected);
      }
    for (const float left : residual)
      require(std::abs(left) < 1e-4, "rank {} keeps {}", comm.rank(), left);
  });
}

TEST_CASE("reducer: it says what goes over the wire and how", "[compressor]") {
  ReducerOptions options = small_buckets("qsgd");
  options.algorithm = Algorithm::kRing;
  const auto results = reduced(4, options, 2);
  CHECK(results[0].description.find("4 ranks by threads: qsgd of 8 bits by max, buckets of 256 by "
                                    "ring; ") != std::string::npos);
  CHECK(results[0].stats.steps == 2);
  CHECK(results[0].stats.bytes_sent > 0);
  CHECK(results[0].stats.times.encode > 0);
}

TEST_CASE("reducer: machines add up inside first and lose nothing", "[compressor]") {
  const std::vector<bool> is = inside();
  const std::vector<std::string> machines = {"a", "b", "a", "c", "b", "a"};
  CHECK(ranks_by_host(machines) == std::vector<std::vector<int>>{{0, 2, 5}, {1, 4}, {3}});
  CHECK_FALSE(Hosts::are_worth_it({"a", "a"}));
  CHECK_FALSE(Hosts::are_worth_it({"a", "b"}));
  for (const char* name : {"none", "qsgd", "ef-sign", "top-k", "sign-majority", "power-sgd"}) {
    CAPTURE(name);
    ReducerOptions options = small_buckets(name);
    options.hosts = machines;
    const auto results = reduced(6, options, 2);
    for (const Reduced& result : results) CHECK(result.gradients == results[0].gradients);
    CHECK(results[0].description.find("between 3 machines") != std::string::npos);
    if (std::string(name) == "qsgd" || std::string(name) == "sign-majority") continue;
    std::vector<double> lost(is.size());
    for (int step = 0; step < 2; ++step) {
      const std::vector<double> in = brought(6, step, std::ssize(is));
      for (size_t i = 0; i < is.size(); ++i)
        lost[i] += in[i] - static_cast<double>(results[0].gradients[static_cast<size_t>(step)][i]);
    }
    double worst = 0;
    for (size_t i = 0; i < is.size(); ++i) {
      for (const Reduced& result : results)
        if (!result.error.empty()) lost[i] -= static_cast<double>(result.error[i]);
      if (is[i]) worst = std::max(worst, std::abs(lost[i]));
    }
    CHECK(worst < 3e-5);
  }
}

TEST_CASE("reducer: what goes wrong between ranks is thrown where the step is finished",
          "[compressor]") {
  std::vector<std::string> said(2);
  run_ranks(2, [&](std::unique_ptr<Transport> transport) {
    Comm comm(std::move(transport));
    Exec exec({}, 1);
    ParamStore params;
    add_parameters(params);
    ReducerOptions options = small_buckets(comm.rank() == 0 ? "qsgd" : "natural");
    options.algorithm = Algorithm::kSra;
    Reducer reducer(exec, comm, params, options);
    reducer.begin(0, 0.1);
    try {
      for (const ParamId id : params.in_memory_order()) reducer.ready(id);
      reducer.finish({});
    } catch (const CommError& error) {
      said[static_cast<size_t>(comm.rank())] = error.what();
    }
  });
  for (const std::string& sentence : said) {
    CAPTURE(sentence);
    CHECK(sentence.find("qsgd") != std::string::npos);
    CHECK(sentence.find("natural") != std::string::npos);
  }
}

}  // namespace ringfort
