// Batch norm whose batch lies on several ranks, here threads with a barrier: what each of them gets
// is its part of what one pass over the joint batch gives.
#include <array>
#include <barrier>
#include <catch2/catch.hpp>
#include <thread>

#include "models/layers.h"
#include "tests/tensors.h"
#include "tests/tiny_models.h"

namespace ringfort::testing {
namespace {

// The ranks' sum, in the order of their numbers.
class Ranks {
 public:
  explicit Ranks(int count) : barrier_(count), shown_(static_cast<size_t>(count)) {}

  SumOverRanks of(int rank) {
    return [this, rank](Exec&, const View& sums) {
      ++calls_[static_cast<size_t>(rank)];
      shown_[static_cast<size_t>(rank)] = values_of(sums);
      barrier_.arrive_and_wait();
      Vector total(shown_.front().size());
      for (const Vector& each : shown_)
        for (size_t i = 0; i < total.size(); ++i) total[i] += each.at(i);
      barrier_.arrive_and_wait();
      assign(sums, total);
    };
  }
  // Runs body(rank) on a thread each.
  template <class Body>
  static void run(int count, const Body& body) {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < count; ++rank) threads.emplace_back([&body, rank] { body(rank); });
  }
  int calls(int rank) const { return calls_.at(static_cast<size_t>(rank)); }

 private:
  std::barrier<> barrier_;
  std::vector<Vector> shown_;
  std::array<int, 4> calls_{};
};

enum class Kind { kPlain, kRelu, kAddRelu };

struct Result {
  Vector y, dx, dresidual;  // of the images
  Vector gradient;          // of gamma and beta
  Vector statistics;
};

constexpr int64_t kChannels = 5;

struct Images {
  int64_t count;
  Vector x, residual, dy;
};

Vector slice(const Vector& all, int64_t first, int64_t count, int64_t per_image) {
  return {all.begin() + first * per_image, all.begin() + (first + count) * per_image};
}

// One norm, forward and backward, as a rank or alone.
Result run_norm(const Images& images, Kind kind, BnMode bn, const SumOverRanks* sum) {
  Exec exec({}, 1);
  Pool pool;
  ParamStore params(Dtype::kFloat64);
  LayerBuilder build(params);
  const NormParams norm = build.norm("norm", kChannels);
  params.allocate();
  randomize(exec, params, 3);
  PassOptions options{Wrt::kBoth, bn, Dtype::kFloat64};
  options.sum_over_ranks = sum;
  Pass p(exec, pool, params, options);
  const Shape shape{images.count, 3, 2, kChannels};
  const Var x = p.input(tensor_of(pool, shape, images.x));
  const Var residual = p.input(tensor_of(pool, shape, images.residual));
  const Var y =
      kind == Kind::kAddRelu
          ? batch_norm_add_relu(p, x, norm, residual)
          : batch_norm(p, x, norm, kind == Kind::kRelu ? Activation::kRelu : Activation::kNone);
  Result result;
  result.y = values_of(y.value);
  p.backward(y, tensor_of(pool, shape, images.dy));
  result.dx = values_of(p.tape.gradient(x));
  if (kind == Kind::kAddRelu) result.dresidual = values_of(p.tape.gradient(residual));
  result.gradient = values_of(params.flat_gradient());
  result.statistics = values_of(params.flat_statistics());
  return result;
}

Vector sum(const Vector& a, const Vector& b) {
  Vector total = a;
  for (size_t i = 0; i < b.size(); ++i) total[i] += b[i];
  return total;
}

Images joint_images(int64_t count, double centre) {
  const int64_t elements = count * 6 * kChannels;
  Images images{count, random_vector(elements, 1, -1, 2), random_vector(elements, 2, -1, 1),
                random_vector(elements, 3, -1, 1)};
  // Channels of different centres, and images too: ranks do not see the same distribution.
  for (size_t i = 0; i < images.x.size(); ++i)
    images.x[i] += centre * static_cast<double>(i % kChannels) +
                   0.25 * static_cast<double>(i / (6 * kChannels));
  return images;
}

}  // namespace

TEST_CASE("norms of several ranks give what one norm of the joint batch gives", "[norm]") {
  const auto kind = GENERATE(Kind::kPlain, Kind::kRelu, Kind::kAddRelu);
  const auto bn = GENERATE(BnMode::kBatch, BnMode::kBatchAndUpdate);
  const auto counts = GENERATE(std::vector<int64_t>{4, 4}, std::vector<int64_t>{1, 6},
                               std::vector<int64_t>{2, 5, 1}, std::vector<int64_t>{7});
  const double centre = GENERATE(0.0, 1e4);  // its square would cost a float64 half of its digits
  int64_t total = 0;
  for (const int64_t count : counts) total += count;
  const Images images = joint_images(total, centre);
  const Result joint = run_norm(images, kind, bn, nullptr);
  const int ranks = static_cast<int>(counts.size());
  Ranks sums(ranks);
  std::vector<Result> results(counts.size());
  std::vector<Images> parts;
  int64_t first = 0;
  for (const int64_t count : counts) {
    const auto part = [&](const Vector& all) { return slice(all, first, count, 6 * kChannels); };
    parts.push_back({count, part(images.x), part(images.residual), part(images.dy)});
    first += count;
  }
  Ranks::run(ranks, [&](int rank) {
    const SumOverRanks over_ranks = sums.of(rank);
    const auto at = static_cast<size_t>(rank);
    results[at] = run_norm(parts[at], kind, bn, &over_ranks);
  });
  Result together;
  for (const Result& result : results) {
    const auto append = [](Vector& to, const Vector& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    append(together.y, result.y);
    append(together.dx, result.dx);
    append(together.dresidual, result.dresidual);
    together.gradient =
        together.gradient.empty() ? result.gradient : sum(together.gradient, result.gradient);
    CHECK(result.statistics == results.front().statistics);  // bit for bit
    CHECK(relative_error(result.statistics, joint.statistics) < 1e-12);
  }
  const double tolerance = centre == 0 ? 1e-12 : 1e-10;  // of x - mean
  CHECK(relative_error(together.y, joint.y) < tolerance);
  CHECK(relative_error(together.dx, joint.dx) < tolerance);
  CHECK(relative_error(together.gradient, joint.gradient) < tolerance);
  CHECK(together.dresidual == joint.dresidual);
  for (int rank = 0; rank < ranks; ++rank) CHECK(sums.calls(rank) == 3);
}

TEST_CASE("under running statistics no rank asks the others", "[norm]") {
  const SumOverRanks never = [](Exec&, const View&) { FAIL("a sum over ranks"); };
  const Images images = joint_images(4, 0);
  const Result alone = run_norm(images, Kind::kRelu, BnMode::kRunning, nullptr);
  const Result told = run_norm(images, Kind::kRelu, BnMode::kRunning, &never);
  CHECK(told.y == alone.y);
  CHECK(told.dx == alone.dx);
  CHECK(told.gradient == alone.gradient);
}

TEST_CASE("a network on two ranks has the gradient of the joint batch", "[norm]") {
  const ModelSpec spec = test::tiny_spec("preact_resnet18", 4, 8, 3);
  const Vector pixels = random_vector(7 * 8 * 8 * 3, 5, 0, 1);
  const Vector labels = {0, 1, 2, 3, 0, 1, 2};
  struct Trained {
    Vector gradient, statistics;
  };
  const auto run = [&](int64_t first, int64_t count, const SumOverRanks* over_ranks) {
    Exec exec({}, 1);
    Pool pool;
    const auto model = make_model(spec, {.master = Dtype::kFloat64});
    randomize(exec, model->params(), 3);
    PassOptions options{Wrt::kParams, BnMode::kBatchAndUpdate, Dtype::kFloat64};
    options.sum_over_ranks = over_ranks;
    Pass p(exec, pool, model->params(), options);
    const Tensor x = tensor_of(pool, {count, 8, 8, 3}, slice(pixels, first, count, 8 * 8 * 3));
    const Var logits = model->forward(p, p.input(x));
    const Tensor classes =
        tensor_of(pool, vector_shape(count), slice(labels, first, count, 1), Dtype::kInt32);
    p.backward(logits, cross_entropy(p, logits, classes, 1.0 / 7).dlogits);
    return Trained{values_of(model->params().flat_gradient()),
                   values_of(model->params().flat_statistics())};
  };
  const Trained joint = run(0, 7, nullptr);
  Ranks sums(2);
  std::array<Trained, 2> parts;
  Ranks::run(2, [&](int rank) {
    const SumOverRanks over_ranks = sums.of(rank);
    parts.at(static_cast<size_t>(rank)) =
        rank == 0 ? run(0, 3, &over_ranks) : run(3, 4, &over_ranks);
  });
  CHECK(relative_error(sum(parts[0].gradient, parts[1].gradient), joint.gradient) < 1e-10);
  for (const Trained& part : parts)
    CHECK(relative_error(part.statistics, joint.statistics) < 1e-11);
  CHECK(relative_error(sum(run(0, 3, nullptr).gradient, run(3, 4, nullptr).gradient),
                       joint.gradient) > 1e-3);
}

}  // namespace ringfort::testing
