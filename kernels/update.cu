#include "kernels/update.h"

#include "kernels/map.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

// The k-th of the arguments.
template <int kIndex, class First, class... Rest>
HD auto nth(First first, Rest... rest) {
  if constexpr (kIndex == 0)
    return first;
  else
    return nth<kIndex - 1>(rest...);
}

// A formula with the numbers of the step, which it reads where it runs.
template <class Formula>
struct AtStep {
  Formula formula;
  const StepRates* rates_at;
  const GradientCheck* check_at;
  const MeanWeights* means_at;
  StepNumbers step = {};

  HD AtStep resolve() const {
    AtStep now = *this;
    now.step.rates = *rates_at;
    now.step.check = *check_at;
    if (means_at != nullptr) {
      now.step.first_correction = 1 - means_at->first;
      now.step.second_correction = 1 - means_at->second;
    }
    return now;
  }
  template <class... S>
  HD auto operator()(S... x) const {
    return formula(step, x...);
  }
};

// An update whose results take the places of its first arguments: where the gradient is not finite
// they stay as they are. kAverage: the first argument is the average of the weights, the last
// result but for the copy. kCopy: the new weight once more.
template <class Formula, bool kAverage, bool kCopy>
struct Update {
  AtStep<Formula> at_step;

  HD Update resolve() const { return {at_step.resolve()}; }

  template <class S, class... Rest>
  HD auto operator()(S first, Rest... rest) const {
    if constexpr (kAverage)
      return results(first, at_step(rest...), rest...);
    else
      return results(S(0), at_step(first, rest...), first, rest...);
  }

 private:
  template <class S, int kOwn, class... Old>
  HD Results<S, kOwn + kAverage + kCopy> results(S average, const Results<S, kOwn>& next,
                                                 Old... old) const {
    const bool finite = at_step.step.check.finite != 0;
    const S a = S(at_step.step.rates.averaging);
    Results<S, kOwn + kAverage + kCopy> all;
    all.value[0] = finite ? next.value[0] : nth<0>(old...);
    if constexpr (kOwn > 1) all.value[1] = finite ? next.value[1] : nth<1>(old...);
    if constexpr (kOwn > 2) all.value[2] = finite ? next.value[2] : nth<2>(old...);
    if constexpr (kAverage)
      all.value[kOwn] = finite ? a * average + (S(1) - a) * all.value[0] : average;
    if constexpr (kCopy) all.value[kOwn + kAverage] = all.value[0];
    return all;
  }
};

template <class Formula>
AtStep<Formula> at_step(const Formula& formula, const UpdateBuffers& buffers) {
  return {formula, buffers.rates.as<const StepRates>(), buffers.check.as<const GradientCheck>(),
          buffers.means.as<const MeanWeights>()};
}

template <size_t kFirst, size_t kSecond>
std::array<View, kFirst + kSecond> joined(const std::array<View, kFirst>& first,
                                          const std::array<View, kSecond>& second) {
  std::array<View, kFirst + kSecond> all;
  std::copy(first.begin(), first.end(), all.begin());
  std::copy(second.begin(), second.end(), all.begin() + kFirst);
  return all;
}

// formula(w, in..., values...) -> out, states...
template <bool kAverage, bool kCopy, class Formula, size_t kStates, size_t kIn, size_t kValues>
void launch_update(Exec& exec, const Formula& formula, const UpdateBuffers& buffers,
                   const std::array<View, kStates>& states, const std::array<View, kIn>& in,
                   const std::array<View, kValues>& values) {
  std::array<View, 1 + kStates + kAverage + kCopy> outputs;
  auto end = outputs.begin();
  *end++ = buffers.out;
  end = std::copy(states.begin(), states.end(), end);
  if constexpr (kAverage) *end++ = buffers.average;
  if constexpr (kCopy) *end++ = buffers.copy;
  const Update<Formula, kAverage, kCopy> update{at_step(formula, buffers)};
  if constexpr (kAverage)
    segment_map(exec, update, outputs, buffers.table,
                joined(std::array{buffers.average, buffers.w}, in), values);
  else
    segment_map(exec, update, outputs, buffers.table, joined(std::array{buffers.w}, in), values);
}

template <class Formula, size_t kStates, size_t kIn, size_t kValues>
void update_weights(Exec& exec, const Formula& formula, const UpdateBuffers& buffers,
                    const std::array<View, kStates>& states, const std::array<View, kIn>& in,
                    const std::array<View, kValues>& values) {
  const bool average = buffers.average.data != nullptr, copy = buffers.copy.data != nullptr;
  if (average && copy)
    launch_update<true, true>(exec, formula, buffers, states, in, values);
  else if (average)
    launch_update<true, false>(exec, formula, buffers, states, in, values);
  else if (copy)
    launch_update<false, true>(exec, formula, buffers, states, in, values);
  else
    launch_update<false, false>(exec, formula, buffers, states, in, values);
}

// The squared norm of the weights, and that of LAMB's direction.
struct LambSquares {
  AtStep<AdamDirection> direction;
  HD LambSquares resolve() const { return {direction.resolve()}; }
  template <class S>
  HD Results<S, 2> operator()(S m, S v, S seen, S decay) const {
    const S u = direction(m, v, seen, decay);
    return {{seen * seen, u * u}};
  }
};

struct CountUpdate {
  MeanWeights* means;
  const StepRates* rates;
  const GradientCheck* check;
  double second_beta;
  HD void operator()(int64_t) const {
    if (check->finite == 0) return;
    means->first *= rates->momentum;
    means->second *= second_beta;
  }
};

struct Exchange {
  template <class S>
  HD Results<S, 2> operator()(S a, S b) const {
    return {{b, a}};
  }
};

struct CheckGradient {
  View check, squares, loss;
  int64_t segments;
  double longest, most;
  HD void operator()(int64_t) const {
    double sum = 0;
    for (int64_t s = 0; s < segments; ++s) sum += detail::load_element<double>(squares, s);
    const bool longer = longest > 0 && sum > longest * longest;
    const double at = loss.data != nullptr ? detail::load_element<double>(loss, 0) : 0;
    const double clipped = longer ? longest * longest : sum;
    const bool finite = sum - sum == 0 && at - at == 0 && clipped <= most;
    *check.as<GradientCheck>() = {longer ? longest / std::sqrt(sum) : 1.0, finite ? 1.0 : 0.0};
  }
};

}  // namespace

void sgd_update(Exec& exec, const UpdateBuffers& buffers, View m, const SgdUpdate& update) {
  update_weights(exec, update, buffers, std::array{m},
                 std::array{m, buffers.gradient, buffers.seen}, std::array{buffers.decay});
}

void adam_update(Exec& exec, const UpdateBuffers& buffers, View m, View v,
                 const AdamUpdate& update) {
  update_weights(exec, update, buffers, std::array{m, v},
                 std::array{m, v, buffers.gradient, buffers.seen}, std::array{buffers.decay});
}

void lars_update(Exec& exec, const UpdateBuffers& buffers, const LayerNorms& norms, View m,
                 const LarsUpdate& update, const LarsRatio& ratio) {
  segment_squares(exec, norms.w_squares, buffers.seen, buffers.table);
  map(exec, at_step(ratio, buffers), {norms.ratio},
      {norms.w_squares, norms.other_squares, buffers.decay, norms.adapted});
  update_weights(exec, update, buffers, std::array{m},
                 std::array{m, buffers.gradient, buffers.seen},
                 std::array{buffers.decay, norms.ratio});
}

void lamb_update(Exec& exec, const UpdateBuffers& buffers, const LayerNorms& norms, View m, View v,
                 const AdamMoments& moments, const LambUpdate& update, const LambRatio& ratio) {
  segment_map(exec, Update<AdamMoments, false, false>{at_step(moments, buffers)}, std::array{m, v},
              buffers.table, std::array{m, v, buffers.gradient, buffers.seen},
              std::array{buffers.decay});
  segment_reduce(exec, LambSquares{at_step(update.direction, buffers)},
                 std::array{norms.w_squares, norms.other_squares}, buffers.table,
                 std::array{m, v, buffers.seen}, std::array{buffers.decay});
  map(exec, at_step(ratio, buffers), {norms.ratio},
      {norms.w_squares, norms.other_squares, norms.adapted});
  update_weights(exec, update, buffers, std::array<View, 0>{}, std::array{m, v, buffers.seen},
                 std::array{buffers.decay, norms.ratio});
}

void count_update(Exec& exec, View means, View rates, View check, double second_beta) {
  for_each(exec, 1, 1,
           CountUpdate{means.as<MeanWeights>(), rates.as<const StepRates>(),
                       check.as<const GradientCheck>(), second_beta});
}

void exchange(Exec& exec, View a, View b) { map(exec, Exchange{}, {a, b}, {a, b}); }

void segment_squares(Exec& exec, View squares, View flat, const SegmentTable& table) {
  segment_reduce(exec, Square{}, std::array{squares}, table, std::array{flat});
}

void check_gradient(Exec& exec, View check, View squares, View loss, double longest, double most) {
  for_each(exec, 1, squares.count(),
           CheckGradient{check, squares, loss, squares.count(), longest, most});
}

}  // namespace ringfort
