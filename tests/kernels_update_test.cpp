// Optimizer updates against the definitions in float64, one element at a time: SGD, LARS, Adam,
// AdamW, LAMB; averages, copies, clipping, steps that must change nothing; weight perturbation.
#include "kernels/update.h"

#include <catch2/catch.hpp>
#include <cfloat>
#include <limits>

#include "kernels/perturb.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::Buffer;
using testing::random_vector;
using testing::relative_error;

enum class Method { kSgd, kLars, kAdam, kAdamW, kLamb };

struct Settings {
  Method method = Method::kSgd;
  bool nesterov = false;
  double decay = 0.01, eps = 0.01, trust = 0.25, largest = 0;
  bool correction = true;
};

constexpr double kLr = 0.0625, kMomentum = 0.875, kSecondBeta = 0.75;
const std::vector<int64_t> kLengths = {1, 33, 8200, 16};

// Flat buffers with four segments, the second of which neither decays nor is layer-wise, and the
// plain numbers that are to be found in them.
struct Weights {
  Dtype dtype;
  std::vector<SegmentPart> parts;
  int64_t total = 0;
  SegmentTable table;
  Buffer w, gradient, m, v, average, copy;
  Buffer decays{Dtype::kFloat64, vector_shape(4), {1, 0, 1, 1}},
      adapted{Dtype::kFloat64, vector_shape(4), {1, 0, 1, 1}},
      w_squares{Dtype::kFloat64, vector_shape(4)}, squares{Dtype::kFloat64, vector_shape(4)},
      ratios{Dtype::kFloat64, vector_shape(4)},
      rates{Dtype::kFloat64, vector_shape(StepRates::kCount)},
      check{Dtype::kFloat64, vector_shape(GradientCheck::kCount), {1, 1}},
      means{Dtype::kFloat64, vector_shape(MeanWeights::kCount), {1, 1}};
  std::vector<double> plain_w, plain_m, plain_v, plain_average;

  static std::vector<SegmentPart> laid_out() {
    std::vector<SegmentPart> parts;
    int64_t at = 0;
    for (const int64_t length : kLengths) {
      parts.push_back({at, at + length});
      at += (length + 15) / 16 * 16;
    }
    return parts;
  }
  explicit Weights(Dtype t)
      : dtype(t),
        parts(laid_out()),
        total(parts.back().last),
        table(kTestDevice, parts),
        w(t, vector_shape(total), random_vector(total, 1)),
        gradient(t, vector_shape(total)),
        m(t, vector_shape(total), std::vector<double>(static_cast<size_t>(total))),
        v(t, vector_shape(total), std::vector<double>(static_cast<size_t>(total))),
        average(t, vector_shape(total), random_vector(total, 2)),
        copy(Dtype::kBFloat16, vector_shape(total)),
        plain_w(w.values()),
        plain_m(m.values()),
        plain_v(v.values()),
        plain_average(average.values()) {}

  UpdateBuffers buffers(bool averaged, bool copied, const View& seen, bool corrected = true) const {
    return {w,
            seen,
            gradient,
            w,
            averaged ? average.view() : View{},
            copied ? copy.view() : View{},
            table,
            decays,
            rates,
            check,
            corrected ? means.view() : View{}};
  }

  void update(Exec& exec, const Settings& s, const UpdateBuffers& at) const {
    const LayerNorms norms{adapted, w_squares, squares, ratios};
    switch (s.method) {
      case Method::kSgd:
        return sgd_update(exec, at, m, {s.decay, s.nesterov});
      case Method::kLars:
        segment_squares(exec, squares, gradient, table);
        return lars_update(exec, at, norms, m, {s.decay, s.nesterov}, {s.trust, s.decay, s.eps});
      case Method::kAdam:
        return adam_update(exec, at, m, v, {{kSecondBeta, s.decay}, {s.eps, 0}});
      case Method::kAdamW:
        return adam_update(exec, at, m, v, {{kSecondBeta, 0}, {s.eps, s.decay}});
      case Method::kLamb:
        return lamb_update(exec, at, norms, m, v, {kSecondBeta, 0}, {{s.eps, s.decay}},
                           {s.largest});
    }
  }

  // The same by the book. g: clipped. t: of the update, from 1.
  void plain_update(const Settings& s, const std::vector<double>& g,
                    const std::vector<double>& seen, int t, double averaging) {
    for (size_t k = 0; k < parts.size(); ++k) {
      const bool on = k != 1;
      const double decay = on ? s.decay : 0;
      double ww = 0, gg = 0, uu = 0;
      std::vector<double> u(plain_w.size());
      const auto each = [&](auto&& body) {
        for (auto i = static_cast<size_t>(parts[k].first); i < static_cast<size_t>(parts[k].last);
             ++i)
          body(i);
      };
      const double c1 = s.correction ? 1 - std::pow(kMomentum, t) : 1,
                   c2 = s.correction ? 1 - std::pow(kSecondBeta, t) : 1;
      each([&](size_t i) {
        ww += seen[i] * seen[i];
        gg += g[i] * g[i];
        if (s.method == Method::kSgd || s.method == Method::kLars) return;
        const double d = g[i] + (s.method == Method::kAdam ? decay * seen[i] : 0);
        plain_m[i] = kMomentum * plain_m[i] + (1 - kMomentum) * d;
        plain_v[i] = kSecondBeta * plain_v[i] + (1 - kSecondBeta) * d * d;
        u[i] = plain_m[i] / c1 / (std::sqrt(plain_v[i] / c2) + s.eps) +
               (s.method == Method::kAdam ? 0 : decay * seen[i]);
        uu += u[i] * u[i];
      });
      double ratio = 1;
      if (s.method == Method::kLars && on)
        ratio = s.trust * std::sqrt(ww) / (std::sqrt(gg) + decay * std::sqrt(ww) + s.eps);
      if (s.method == Method::kLamb && on)
        ratio =
            (s.largest > 0 ? std::min(std::sqrt(ww), s.largest) : std::sqrt(ww)) / std::sqrt(uu);
      each([&](size_t i) {
        if (s.method == Method::kSgd) {
          const double d = g[i] + decay * seen[i];
          plain_m[i] = kMomentum * plain_m[i] + d;
          plain_w[i] -= kLr * (s.nesterov ? d + kMomentum * plain_m[i] : plain_m[i]);
        } else if (s.method == Method::kLars) {
          const double d = kLr * ratio * (g[i] + decay * seen[i]);
          plain_m[i] = kMomentum * plain_m[i] + d;
          plain_w[i] -= s.nesterov ? d + kMomentum * plain_m[i] : plain_m[i];
        } else {
          plain_w[i] -= kLr * ratio * u[i];
        }
        plain_average[i] = averaging * plain_average[i] + (1 - averaging) * plain_w[i];
      });
    }
  }
};

// Three steps; the gradient clipped by 0.75 in the second; seen: the weights, or others.
void check_updates(const Settings& s, Dtype dtype, bool averaged, bool copied, bool moved) {
  Weights at(dtype);
  Exec exec(kTestDevice, 2);
  for (int t = 1; t <= 3; ++t) {
    const auto seed = static_cast<uint64_t>(10 * t);
    at.gradient.set(random_vector(at.total, seed));
    const Buffer other(dtype, vector_shape(at.total), random_vector(at.total, seed + 1));
    const double clip = t == 2 ? 0.75 : 1, averaging = 0.25 * t;
    at.check.set({clip, 1});
    at.rates.set({kLr, kMomentum, averaging});
    count_update(exec, at.means, at.rates, at.check, kSecondBeta);
    std::vector<double> g = at.gradient.values();
    for (double& x : g) x *= clip;
    const std::vector<double> seen = moved ? other.values() : at.w.values();
    at.update(exec, s, at.buffers(averaged, copied, moved ? other : at.w, s.correction));
    at.plain_update(s, g, seen, t, averaging);
  }
  const double tolerance = dtype == Dtype::kFloat64 ? 1e-14 : 64 * FLT_EPSILON;
  CHECK(relative_error(at.w.values(), at.plain_w) < tolerance);
  CHECK(relative_error(at.m.values(), at.plain_m) < tolerance);
  CHECK(relative_error(at.v.values(), at.plain_v) < tolerance);
  if (averaged) CHECK(relative_error(at.average.values(), at.plain_average) < tolerance);
  if (!copied) return;
  const std::vector<double> copy = at.copy.values(),
                            rounded = testing::rounded_to(Dtype::kBFloat16, at.w.values());
  for (const SegmentPart& part : at.parts)
    CHECK(std::equal(copy.begin() + part.first, copy.begin() + part.last,
                     rounded.begin() + part.first));
}

const std::vector<Settings> kSettings = {
    {Method::kSgd},
    {Method::kSgd, true},
    {Method::kSgd, true, 0},
    {Method::kLars},
    {Method::kLars, true},
    {Method::kAdam},
    {Method::kAdam, false, 0.01, 0.01, 0, 0, false},
    {Method::kAdamW},
    {Method::kLamb},
    {Method::kLamb, false, 0.01, 0.01, 0, 2, false},
};

}  // namespace

TEST_CASE("updates follow their definitions over three steps, in float64 and float32") {
  for (size_t k = 0; k < kSettings.size(); ++k) {
    INFO("settings " << k);
    for (const Dtype dtype : {Dtype::kFloat64, Dtype::kFloat32})
      for (const bool moved : {false, true})
        check_updates(kSettings[k], dtype, k % 2 == 0, dtype == Dtype::kFloat32, moved);
    check_updates(kSettings[k], Dtype::kFloat64, k % 2 != 0, k % 3 == 0, false);
  }
}

TEST_CASE("a step without a finite gradient changes no weight, state, average or copy") {
  for (const Settings& s : kSettings) {
    Weights at(Dtype::kFloat32);
    Exec exec(kTestDevice, 2);
    at.rates.set({kLr, kMomentum, 0.5});
    at.means.set({0.5, 0.5});
    at.gradient.set(random_vector(at.total, 5));
    at.update(exec, s, at.buffers(true, true, at.w));
    const std::vector<std::vector<double>> before = {at.w.values(), at.m.values(), at.v.values(),
                                                     at.average.values(), at.copy.values()};
    std::vector<double> bad = at.gradient.values();
    bad[7] = std::numeric_limits<double>::quiet_NaN();
    bad[40] = std::numeric_limits<double>::infinity();
    at.gradient.set(bad);
    segment_squares(exec, at.squares, at.gradient, at.table);
    check_gradient(exec, at.check, at.squares, View{}, 0);
    CHECK(at.check.values()[1] == 0);
    at.update(exec, s, at.buffers(true, true, at.w));
    const std::vector<std::vector<double>> after = {at.w.values(), at.m.values(), at.v.values(),
                                                    at.average.values(), at.copy.values()};
    for (const SegmentPart& part : at.parts)
      for (size_t k = 0; k < before.size(); ++k)
        CHECK(std::equal(before[k].begin() + part.first, before[k].begin() + part.last,
                         after[k].begin() + part.first));
  }
}

TEST_CASE("an update from weights that were moved for the gradient starts where they were") {
  Weights at(Dtype::kFloat32);
  Exec exec(kTestDevice, 2);
  at.rates.set({0, 0, 0});  // nothing moves
  at.gradient.set(random_vector(at.total, 5));
  const Buffer moved(Dtype::kFloat32, vector_shape(at.total), random_vector(at.total, 6));
  const std::vector<double> w = at.w.values(), gap = moved.values();
  UpdateBuffers buffers = at.buffers(false, false, moved);
  buffers.out = moved;
  sgd_update(exec, buffers, at.m, {0.01, false});
  const std::vector<double> got = moved.values();
  for (const SegmentPart& part : at.parts)
    CHECK(std::equal(got.begin() + part.first, got.begin() + part.last, w.begin() + part.first));
  CHECK(got[5] == gap[5]);  // between segments
}

TEST_CASE("only updates that are made count towards Adam's correction of its bias") {
  Exec exec(kTestDevice, 1);
  Buffer means(Dtype::kFloat64, vector_shape(2), {1, 1}), check(Dtype::kFloat64, vector_shape(2)),
      rates(Dtype::kFloat64, vector_shape(3));
  const auto count = [&](double momentum, bool finite) {
    rates.set({0.1, momentum, 0});
    check.set({1, finite ? 1.0 : 0.0});
    count_update(exec, means, rates, check, 0.75);
    return means.values();
  };
  using Means = std::vector<double>;
  CHECK((count(0.5, true) == Means{0.5, 0.75}));
  CHECK((count(0.25, false) == Means{0.5, 0.75}));
  CHECK((count(0.25, true) == Means{0.125, 0.5625}));  // a momentum that cycles
}

TEST_CASE("trust ratios: 1 for what has no norm or is not layer-wise") {
  const StepNumbers step;
  const LarsRatio lars{0.5, 0.25, 0};
  CHECK(lars(step, 16.0, 4.0, 1.0, 1.0) == 0.5 * 4 / (2 + 0.25 * 4));
  CHECK(lars(step, 16.0, 4.0, 0.0, 1.0) == 0.5 * 4 / 2);
  CHECK(lars(step, 0.0, 4.0, 1.0, 1.0) == 1);
  CHECK(lars(step, 16.0, 0.0, 1.0, 1.0) == 1);
  CHECK(lars(step, 16.0, 4.0, 1.0, 0.0) == 1);
  StepNumbers clipped;
  clipped.check.scale = 0.5;
  CHECK(lars(clipped, 16.0, 4.0, 0.0, 1.0) == 0.5 * 4 / 1);
  const LambRatio lamb{3};
  CHECK(lamb(step, 4.0, 16.0, 1.0) == 0.5);
  CHECK(lamb(step, 100.0, 16.0, 1.0) == 0.75);
  CHECK(LambRatio{}(step, 100.0, 16.0, 1.0) == 2.5);
  CHECK(lamb(step, 0.0, 16.0, 1.0) == 1);
  CHECK(lamb(step, 4.0, 0.0, 1.0) == 1);
  CHECK(lamb(step, 4.0, 16.0, 0.0) == 1);
}

TEST_CASE("gradients are checked: longer than the limit, not finite, with a loss that is not") {
  Exec exec(kTestDevice, 1);
  Buffer squares(Dtype::kFloat64, vector_shape(3), {4, 0, 12}),  // norm 4
      check(Dtype::kFloat64, vector_shape(2)), loss(Dtype::kFloat64, vector_shape(1), {2.5});
  const auto at = [&](double longest, const View& of = {}) {
    check_gradient(exec, check, squares, of, longest);
    return check.values();
  };
  using Found = std::vector<double>;
  CHECK((at(1) == Found{0.25, 1}));
  CHECK((at(3, loss) == Found{0.75, 1}));
  CHECK((at(4) == Found{1, 1}));
  CHECK((at(100) == Found{1, 1}));
  CHECK((at(0) == Found{1, 1}));
  check_gradient(exec, check, squares, View{}, 0, 15);
  CHECK((check.values() == Found{1, 0}));
  check_gradient(exec, check, squares, View{}, 2, 15);
  CHECK((check.values() == Found{0.5, 1}));
  for (const double bad :
       {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
        std::numeric_limits<double>::quiet_NaN()}) {
    loss.set({bad});
    CHECK((at(1, loss) == Found{0.25, 0}));
    CHECK((at(1) == Found{0.25, 1}));
  }
  squares.set({4, std::numeric_limits<double>::infinity(), 1});
  CHECK(at(1)[1] == 0);
  squares.set({4, std::numeric_limits<double>::quiet_NaN(), 1});
  CHECK(at(0)[1] == 0);
}

TEST_CASE("exchange: two buffers trade places, bit for bit") {
  Exec exec(kTestDevice, 2);
  const Buffer a(Dtype::kFloat32, vector_shape(20011), random_vector(20011, 1)),
      b(Dtype::kFloat32, vector_shape(20011), random_vector(20011, 2));
  const std::vector<double> first = a.values(), second = b.values();
  exchange(exec, a, b);
  CHECK((a.values() == second));
  CHECK((b.values() == first));
}

TEST_CASE("weights are perturbed along their gradient by a share of each segment's norm") {
  for (const Dtype dtype : {Dtype::kFloat64, Dtype::kFloat32})
    for (const bool copied : {false, true}) {
      Weights at(dtype);
      Exec exec(kTestDevice, 2);
      at.gradient.set(random_vector(at.total, 5));
      const Buffer kept(dtype, vector_shape(at.total)), factor(Dtype::kFloat64, vector_shape(4));
      const std::vector<double> w = at.w.values(), g = at.gradient.values();
      perturb_weights(exec, at.w, kept, copied ? at.copy.view() : View{}, at.gradient, at.table,
                      {at.adapted, at.w_squares, at.squares, factor}, 0.125);
      const std::vector<double> moved = at.w.values(), before = kept.values(),
                                copy = at.copy.values(),
                                rounded = testing::rounded_to(Dtype::kBFloat16, moved);
      for (size_t k = 0; k < at.parts.size(); ++k) {
        const auto first = static_cast<size_t>(at.parts[k].first),
                   last = static_cast<size_t>(at.parts[k].last);
        double ww = 0, gg = 0;
        for (size_t i = first; i < last; ++i) ww += w[i] * w[i], gg += g[i] * g[i];
        const double scale = k == 1 ? 0 : 0.125 * std::sqrt(ww) / (std::sqrt(gg) + 1e-20);
        for (size_t i = first; i < last; ++i) {
          CHECK(std::abs(moved[i] - (w[i] + scale * g[i])) <
                (dtype == Dtype::kFloat64 ? 1e-14 : 1e-6));
          CHECK(before[i] == w[i]);
          if (copied) CHECK(copy[i] == rounded[i]);
        }
      }
    }
}

}  // namespace ringfort
