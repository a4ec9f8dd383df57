#include "kernels/group_norm.h"

#include <cmath>

#include "kernels/indexing.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

using detail::load_element;
using detail::store_element;

HD inline double load(const View& view, int64_t at) { return load_element<double>(view, at); }

// The elements of one group of one sample.
struct Group {
  int64_t n, first, channels, count;
  HD Group(int64_t job, const Shape& x, int64_t groups)
      : n(job / groups),
        first(job % groups * (x.c / groups)),
        channels(x.c / groups),
        count(channels * x.h * x.w) {}
  HD int64_t channel(int64_t i) const { return first + i % channels; }
  HD int64_t offset(const View& view, int64_t i) const {
    return element_offset(view, n, i / channels, channel(i));
  }
};

HD inline int64_t groups_of(const View& statistics) { return statistics.shape.c / 2; }

// xhat of the element at `at`, of sample n and channel c.
struct Normalized {
  View x, statistics;
  HD double operator()(int64_t at, int64_t n, int64_t c) const {
    const int64_t group = n * groups_of(statistics) + c / (x.shape.c / groups_of(statistics));
    return (load(x, at) - load(statistics, 2 * group)) * load(statistics, 2 * group + 1);
  }
};

// One row per group, around a pivot that keeps the variance from cancelling.
struct Statistics {
  View statistics, x;
  double epsilon;
  template <class Row>
  HD void operator()(const Row& row, int64_t job) const {
    using std::sqrt;
    const Group group(job, x.shape, groups_of(statistics));
    const View from = x;
    const double pivot = load(from, group.offset(from, 0));
    const auto d = [=](int64_t i) { return load(from, group.offset(from, i)) - pivot; };
    const double mean = row.template sum<double>(group.count, d) / static_cast<double>(group.count);
    const double square = row.template sum<double>(group.count, [=](int64_t i) {
      return d(i) * d(i);
    }) / static_cast<double>(group.count);
    const double variance = square > mean * mean ? square - mean * mean : 0;
    if (!row.first()) return;
    store_element(statistics, 2 * job, pivot + mean);
    store_element(statistics, 2 * job + 1, 1 / sqrt(variance + epsilon));
  }
};

// One call per pixel, all channels.
struct Apply {
  View y, gamma, beta;
  Normalized xhat;
  HD void operator()(int64_t index) const {
    const int64_t plane = y.shape.h * y.shape.w, n = index / plane;
    for (int64_t c = 0; c < y.shape.c; ++c) {
      const int64_t at = element_offset(y, n, index % plane, c);
      store_element(y, at, load(gamma, c) * xhat(at, n, c) + load(beta, c));
    }
  }
};

// {mean of gamma dy, mean of gamma dy xhat} over each group.
struct GroupGradients {
  View sums, dy, gamma;
  Normalized xhat;
  template <class Row>
  HD void operator()(const Row& row, int64_t job) const {
    const Group group(job, dy.shape, groups_of(sums));
    const View from = dy, scale = gamma;
    const Normalized normalized = xhat;
    const auto dz = [=](int64_t i) {
      return load(scale, group.channel(i)) * load(from, group.offset(from, i));
    };
    const double plain = row.template sum<double>(group.count, dz);
    const double weighted = row.template sum<double>(group.count, [=](int64_t i) {
      return dz(i) * normalized(group.offset(from, i), group.n, group.channel(i));
    });
    if (!row.first()) return;
    store_element(sums, 2 * job, plain / static_cast<double>(group.count));
    store_element(sums, 2 * job + 1, weighted / static_cast<double>(group.count));
  }
};

struct Backward {
  View dx, dy, gamma, sums;
  Normalized xhat;
  bool add;
  HD void operator()(int64_t index) const {
    const int64_t plane = dx.shape.h * dx.shape.w, n = index / plane, groups = groups_of(sums);
    for (int64_t c = 0; c < dx.shape.c; ++c) {
      const int64_t at = element_offset(dx, n, index % plane, c);
      const int64_t group = n * groups + c / (dx.shape.c / groups);
      const double inverse = load(xhat.statistics, 2 * group + 1);
      const double gradient = inverse * (load(gamma, c) * load(dy, at) - load(sums, 2 * group) -
                                         xhat(at, n, c) * load(sums, 2 * group + 1));
      store_element(dx, at, add ? gradient + load(dx, at) : gradient);
    }
  }
};

// One row per channel.
struct ScaleGradient {
  View dgamma, dy;
  Normalized xhat;
  bool add;
  template <class Row>
  HD void operator()(const Row& row, int64_t c) const {
    const View from = dy;
    const Normalized normalized = xhat;
    const int64_t plane = dy.shape.h * dy.shape.w;
    const double sum = row.template sum<double>(dy.shape.n * plane, [=](int64_t i) {
      const int64_t at = element_offset(from, i / plane, i % plane, c);
      return load(from, at) * normalized(at, i / plane, c);
    });
    if (row.first()) store_element(dgamma, c, add ? sum + load(dgamma, c) : sum);
  }
};

void check(const View& x, const View& statistics) {
  const int64_t groups = groups_of(statistics);
  require(groups >= 1 && x.shape.c % groups == 0, "group_norm: {} groups do not divide {} channels",
          groups, x.shape.c);
  require(statistics.shape == matrix_shape(x.shape.n, 2 * groups),
          "group_norm: statistics {} do not belong to {}", to_string(statistics.shape),
          to_string(x.shape));
}

void check_like(const View& view, const View& x) {
  require(view.shape == x.shape && view.layout == x.layout,
          "group_norm: {} and {} must have one shape and layout", to_string(view.shape),
          to_string(x.shape));
}

}  // namespace

void group_norm_statistics(Exec& exec, View statistics, View x, double epsilon) {
  check(x, statistics);
  for_each_row(exec, x.shape.n * groups_of(statistics),
               x.shape.per_sample() / groups_of(statistics), Statistics{statistics, x, epsilon});
}

void group_norm_apply(Exec& exec, View y, View x, View statistics, View gamma, View beta) {
  check(x, statistics);
  check_like(y, x);
  for_each(exec, x.shape.pixels(), x.shape.c, Apply{y, gamma, beta, {x, statistics}});
}

void group_norm_backward(Exec& exec, View dx, View scratch, View x, View dy, View statistics,
                         View gamma, float accumulate) {
  check(x, statistics);
  check(x, scratch);
  check_like(dx, x);
  check_like(dy, x);
  const Normalized xhat{x, statistics};
  for_each_row(exec, x.shape.n * groups_of(statistics),
               x.shape.per_sample() / groups_of(statistics),
               GroupGradients{scratch, dy, gamma, xhat});
  for_each(exec, x.shape.pixels(), x.shape.c,
           Backward{dx, dy, gamma, scratch, xhat, accumulate != 0});
}

void group_norm_scale_gradient(Exec& exec, View dgamma, View x, View dy, View statistics,
                               float accumulate) {
  check(x, statistics);
  check_like(dy, x);
  for_each_row(exec, x.shape.c, x.shape.pixels(),
               ScaleGradient{dgamma, dy, {x, statistics}, accumulate != 0});
}

}  // namespace ringfort
