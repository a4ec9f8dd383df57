// ParamStore: where segments lie, what is refused, versions, the compute copy, initialisation.
#include "engine/params.h"

#include <catch2/catch.hpp>

#include "models/layers.h"
#include "tests/tensors.h"

namespace ringfort::testing {
namespace {

using Catch::Contains;

// A convolution with a norm, and a linear layer: every kind of parameter.
void declare(ParamStore& params) {
  LayerBuilder build(params);
  build.conv_with_bias("conv", 3, 5, 3, 1);
  build.norm("norm", 5);
  build.linear("fc", 45, 10);
}

Vector initialized(Exec& exec, uint64_t seed, Dtype dtype = Dtype::kFloat32) {
  ParamStore params(dtype);
  declare(params);
  params.allocate();
  initialize(exec, params, seed);
  return values_of(params.flat_master());
}

}  // namespace

TEST_CASE("Segments lie in reverse order of use, each on a cache line of its own", "[params]") {
  ParamStore params;
  declare(params);
  params.allocate(true);
  const std::vector<std::string> names = {"conv.weight", "conv.bias", "norm.weight",
                                          "norm.bias",   "fc.weight", "fc.bias"};
  REQUIRE(params.segments().size() == names.size());
  for (size_t i = 0; i < names.size(); ++i) CHECK(params.segments()[i].name == names[i]);

  int64_t end = 0;
  std::vector<std::string> order;
  for (const ParamId id : params.in_memory_order()) {
    const Segment& segment = params.segment(id);
    order.push_back(segment.name);
    CHECK(segment.offset >= end);
    CHECK(segment.offset < end + 16);  // no more padding than alignment needs
    end = segment.offset + segment.shape.count();
    for (const View& view : {params.master(id), params.gradient(id)})
      CHECK(reinterpret_cast<uintptr_t>(view.data) % 64 == 0);
    CHECK(params.master(id).as<float>() == params.flat_master().as<float>() + segment.offset);
    CHECK(params.gradient(id).as<float>() == params.flat_gradient().as<float>() + segment.offset);
    CHECK(params.compute(id, Dtype::kBFloat16).as<BFloat16>() ==
          params.flat_copy().as<BFloat16>() + segment.offset);
    CHECK(params.master(id).shape == segment.shape);
  }
  CHECK(order == std::vector<std::string>(names.rbegin(), names.rend()));
  CHECK(params.flat_master().count() >= end);
  CHECK(params.parameter_count() == 5 * 27 + 5 + 5 + 5 + 450 + 10);
}

TEST_CASE("Statistics lie beside the parameters and start at their fill", "[params]") {
  ParamStore params;
  declare(params);
  params.allocate();
  REQUIRE(params.statistics().size() == 2);
  CHECK(params.statistics()[0].name == "norm.running_mean");
  CHECK(values_of(params.statistic(StatId{0})) == Vector(5, 0));
  CHECK(values_of(params.statistic(StatId{1})) == Vector(5, 1));
}

TEST_CASE("Addresses of parameters never change", "[params]") {
  Exec exec({}, 1);
  ParamStore params;
  declare(params);
  params.allocate(true);
  const void* const addresses[] = {params.flat_master().data, params.flat_gradient().data,
                                   params.flat_copy().data, params.flat_statistics().data};
  initialize(exec, params, 1);
  params.master_changed(exec);
  params.statistics_changed();
  CHECK(params.flat_master().data == addresses[0]);
  CHECK(params.flat_gradient().data == addresses[1]);
  CHECK(params.flat_copy().data == addresses[2]);
  CHECK(params.flat_statistics().data == addresses[3]);
  CHECK_THROWS_WITH(params.allocate(), Contains("allocate() has been called"));
}

TEST_CASE("A store says what is wrong", "[params]") {
  ParamStore params;
  params.add("w", {1, 1, 1, 4}, ParamKind::kBias);
  CHECK_THROWS_WITH(params.add("w", {1, 1, 1, 2}, ParamKind::kBias),
                    Contains("'w'") && Contains("unique"));
  params.add_statistic("mean", 4, ParamKind::kRunningMean);
  CHECK_THROWS_WITH(params.add_statistic("mean", 4, ParamKind::kRunningMean),
                    Contains("'mean'") && Contains("unique"));
  params.allocate();
  CHECK_THROWS_WITH(params.add("late", {1, 1, 1, 2}, ParamKind::kBias),
                    Contains("'late'") && Contains("after allocate"));
  CHECK_THROWS_WITH(params.add_statistic("late", 2, ParamKind::kRunningMean),
                    Contains("after allocate"));
  CHECK_THROWS_WITH(params.compute(ParamId{0}, Dtype::kBFloat16),
                    Contains("float32") && Contains("bfloat16") && Contains("compute copy"));
  CHECK_THROWS_WITH(params.compute(ParamId{0}, Dtype::kFloat64), Contains("float64"));
  CHECK_THROWS_WITH(ParamStore(Dtype::kBFloat16), Contains("not bfloat16"));
}

TEST_CASE("The compute copy is the master rounded once, and refreshed when told", "[params]") {
  Exec exec({}, 1);
  ParamStore params;
  declare(params);
  params.allocate(true);
  initialize(exec, params, 5);
  const auto rounded = [&] {
    return rounded_to(Dtype::kBFloat16, values_of(params.flat_master()));
  };
  CHECK(values_of(params.flat_copy()) == rounded());
  const uint64_t version = params.version();
  params.flat_master().as<float>()[3] = 0.123456f;
  CHECK(values_of(params.flat_copy()) != rounded());
  params.master_changed(exec);
  CHECK(values_of(params.flat_copy()) == rounded());
  CHECK(params.version() > version);
}

TEST_CASE("Initialisation is PyTorch's: uniform within 1 / sqrt(fan in), norms 1 and 0",
          "[params]") {
  Exec exec({}, 1);
  ParamStore params;
  declare(params);
  params.allocate();
  initialize(exec, params, 5);
  const auto values = [&](int id) { return values_of(params.master(ParamId{id})); };
  const double conv_bound = 1 / std::sqrt(27.0), linear_bound = 1 / std::sqrt(45.0);
  for (const auto& [id, bound] :
       {std::pair{0, conv_bound}, {1, conv_bound}, {4, linear_bound}, {5, linear_bound}}) {
    INFO(params.segment(ParamId{id}).name);
    const Vector drawn = values(id);
    const auto [lowest, highest] = std::minmax_element(drawn.begin(), drawn.end());
    const double reach = drawn.size() > 100 ? 0.95 : 0;  // many numbers come near both ends
    CHECK(*lowest >= -bound);
    CHECK(*highest <= bound);
    CHECK(*lowest < -reach * bound);
    CHECK(*highest > reach * bound);
  }
  // Of 450 uniform numbers the mean is near 0 and the mean square near a third of the bound's
  // square: six standard deviations of each are let pass.
  const Vector weight = values(4);
  CHECK(std::abs(dot(weight, Vector(450, 1)) / 450) < 6 * linear_bound / std::sqrt(3 * 450.0));
  CHECK(dot(weight, weight) / 450 / (linear_bound * linear_bound) ==
        Approx(1.0 / 3).margin(6 * 0.298 / std::sqrt(450.0)));
  CHECK(values(2) == Vector(5, 1));
  CHECK(values(3) == Vector(5, 0));
  const Vector filter = values(0), bias = values(1);  // a stream of its own each
  CHECK_FALSE(std::equal(bias.begin(), bias.end(), filter.begin()));
}

// Moments of many drawn numbers against the distribution's, six standard deviations let pass.
TEST_CASE("Initialisation follows the architecture's source where it departs from PyTorch's",
          "[params]") {
  Exec exec({}, 1);
  ParamStore params;
  LayerBuilder he(params, {.filter = Init::kHeFanOut, .matrix_bias = Init::kZero});
  he.conv("he", 24, 40, 3, 1);
  he.linear("fc", 45, 10);
  LayerBuilder haiku(params, {.filter = Init::kTruncatedFanIn, .matrix = Init::kZero});
  haiku.conv("haiku", 24, 40, 3, 1);
  haiku.linear("logits", 45, 10);
  params.allocate();
  initialize(exec, params, 5);
  const auto values = [&](int id) { return values_of(params.master(ParamId{id})); };
  const auto moment = [](const Vector& x, int power) {
    double sum = 0;
    for (const double value : x) sum += std::pow(value, power);
    return sum / static_cast<double>(x.size());
  };
  const double count = 24 * 40 * 9;
  const double he_variance = 2.0 / (40 * 9);
  CHECK(std::abs(moment(values(0), 1)) < 6 * std::sqrt(he_variance / count));
  CHECK(moment(values(0), 2) / he_variance == Approx(1).margin(6 * std::sqrt(2 / count)));
  // Normal, not uniform: the fourth moment is 3, that of uniform numbers 1.8.
  CHECK(moment(values(0), 4) / (he_variance * he_variance) ==
        Approx(3).margin(6 * std::sqrt(96 / count)));
  CHECK(values(2) == Vector(10, 0));
  CHECK(moment(values(1), 2) == Approx(1.0 / 45 / 3).epsilon(0.2));

  // A normal number cut off at two standard deviations has 0.7737 of the variance.
  const double sigma = 1 / std::sqrt(24.0 * 9);
  const Vector cut = values(3);
  const auto [lowest, highest] = std::minmax_element(cut.begin(), cut.end());
  CHECK(*lowest >= -2.0001 * sigma);
  CHECK(*highest <= 2.0001 * sigma);
  CHECK(*lowest < -1.98 * sigma);
  CHECK(*highest > 1.98 * sigma);
  CHECK(moment(cut, 2) / (sigma * sigma) == Approx(0.7737).margin(6 * 0.82 / std::sqrt(count)));
  CHECK(values(4) == Vector(450, 0));
  CHECK(moment(values(5), 2) > 0);
}

TEST_CASE("Initialisation depends on the seed, and on nothing else", "[params]") {
  Exec one({}, 1), two({}, 2);
  CHECK(initialized(one, 5) == initialized(two, 5));
  CHECK(initialized(one, 5) != initialized(one, 6));
  const Vector exact = initialized(one, 5, Dtype::kFloat64);
  CHECK(rounded_to(Dtype::kFloat32, exact) == initialized(one, 5));
}

TEST_CASE("Padding between segments is zero", "[params]") {
  Exec exec({}, 1);
  ParamStore params;
  declare(params);
  params.allocate(true);
  initialize(exec, params, 5);
  Vector master = values_of(params.flat_master());
  for (const Segment& segment : params.segments())
    std::fill_n(master.begin() + segment.offset, segment.shape.count(), 0.0);
  CHECK(master == Vector(master.size(), 0));
  CHECK(values_of(params.flat_gradient()) == Vector(master.size(), 0));
}

}  // namespace ringfort::testing
