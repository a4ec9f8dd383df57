// Every op of the table (op_cases.h): its gradients in float64 against central differences, in each
// batch-norm mode and for each choice of wanted gradients; float32 and bfloat16 against float64.
// The loss, which is no node of the tape, likewise.
#include <catch2/catch.hpp>

#include "kernels/plans.h"
#include "tests/gradient_check.h"
#include "tests/op_cases.h"

namespace ringfort::testing {
namespace {

constexpr double kGradientTolerance = 1e-7;
constexpr double kStep = 4e-5;
// Elements this close to a ReLU's kink get no output gradient: neither a difference's step nor the
// rounding of bfloat16 (2^-9 of numbers below 4) then makes a difference on the wrong side.
constexpr double kKinkMargin = 1.0 / 16;

std::vector<BnMode> modes_of(const OpCase& op_case) {
  if (!op_case.has_norm) return {BnMode::kRunning};
  return {BnMode::kRunning, BnMode::kBatch, BnMode::kBatchAndUpdate};
}

Vector output_gradient(OpRun& run, BnMode bn, const std::vector<Vector>& inputs) {
  const size_t count = run.forward(bn, inputs).size();
  Vector dy = exact_vector(static_cast<int64_t>(count), 31);
  const Vector before = run.before_relu(bn, inputs);
  for (size_t i = 0; i < before.size(); ++i)
    if (std::abs(before[i]) < kKinkMargin) dy[i] = 0;
  return dy;
}

// f(t) differentiated at 0 along random directions, against the gradient's projections on them.
template <class F>
void check_projections(const Vector& gradient, const F& f) {
  for (const uint64_t seed : {41, 42}) {
    const Vector direction = random_vector(static_cast<int64_t>(gradient.size()), seed);
    const Slope slope = central_slope([&](double t) { return f(direction, t); }, kStep);
    CHECK(slope.smooth);
    CHECK(relative_error(dot(gradient, direction), slope.value) <= kGradientTolerance);
  }
}

void check_gradients(Exec& exec, const OpCase& op_case, BnMode bn) {
  OpRun run(exec, op_case, Dtype::kFloat64);
  const std::vector<Vector> inputs = inputs_of(op_case);
  const Vector dy = output_gradient(run, bn, inputs);
  const OpRun::Result both = run.run(Wrt::kBoth, bn, inputs, dy);

  for (size_t k = 0; k < inputs.size(); ++k) {
    INFO("input " << k);
    check_projections(both.dx[k], [&](const Vector& direction, double t) {
      std::vector<Vector> at = inputs;
      at[k] = moved(at[k], direction, t);
      return dot(dy, run.forward(bn, at));
    });
  }
  for (size_t k = 0; k < both.gradients.size(); ++k) {
    const View master = run.params().master(static_cast<ParamId>(k));
    INFO("parameter " << run.params().segments()[k].name);
    const Vector values = values_of(master);
    check_projections(both.gradients[k], [&](const Vector& direction, double t) {
      assign(master, moved(values, direction, t));
      run.params().master_changed(exec);
      return dot(dy, run.forward(bn, inputs));
    });
    assign(master, values);
    run.params().master_changed(exec);
  }
}

// What a pass is asked for decides what it computes, not what comes out. Under running statistics
// an input-only pass takes the fused paths: equal up to rounding, else bit for bit.
void check_choices_of_gradients(Exec& exec, const OpCase& op_case, BnMode bn) {
  OpRun run(exec, op_case, Dtype::kFloat64);
  const std::vector<Vector> inputs = inputs_of(op_case);
  const Vector dy = output_gradient(run, bn, inputs);
  const OpRun::Result both = run.run(Wrt::kBoth, bn, inputs, dy);
  CHECK(both.gradients_written >= static_cast<int64_t>(both.gradients.size()));

  poison(run.params().flat_gradient());
  const std::vector<std::byte> poisoned = bytes_of(run.params().flat_gradient());
  const OpRun::Result input_only = run.run(Wrt::kInput, bn, inputs, dy);
  CHECK(input_only.gradients_written == 0);
  const bool untouched = bytes_of(run.params().flat_gradient()) == poisoned;
  CHECK(untouched);
  const double tolerance = bn == BnMode::kRunning ? 1e-13 : 0;
  CHECK(relative_error(input_only.y, both.y) <= tolerance);
  for (size_t k = 0; k < inputs.size(); ++k)
    CHECK(relative_error(input_only.dx[k], both.dx[k]) <= tolerance);

  const OpRun::Result params_only = run.run(Wrt::kParams, bn, inputs, dy);
  CHECK(params_only.gradients_written == both.gradients_written);
  const bool same_gradients = params_only.gradients == both.gradients;
  CHECK(same_gradients);
  for (const Vector& dx : params_only.dx) CHECK(dx.empty());
}

// The op applied twice to the same inputs with the same parameters: all gradients are sums of two.
OpCase twice(const OpCase& op_case) {
  OpCase doubled = op_case;
  doubled.name += ", twice";
  doubled.declare = [declare = op_case.declare](LayerBuilder& build) {
    const Op once = declare(build);
    const Build op = [once](Pass& p, const std::vector<Var>& x) {
      const Var left = once.op(p, x);
      return add(p, left, once.op(p, x));
    };
    return Op{op, once.before_relu};
  };
  return doubled;
}

template <class Check>
void for_each_case(const Check& check) {
  REQUIRE(op_cases().size() > 40);
  for (const OpCase& op_case : op_cases())
    for (const BnMode bn : modes_of(op_case)) {
      INFO(op_case.name << ", batch-norm mode " << static_cast<int>(bn));
      check(op_case, bn);
    }
}

// Largest differences from float64 that are let pass, relative to the largest element of a tensor.
// float32: 32 roundings of 2^-24. Sums have up to 300 products and errors that grow with the square
// root of their number (17 roundings); Winograd on the few products here adds no more than that.
// bfloat16: products are summed in float32; what is left are the roundings, 2^-9 each, of filter,
// convolution, norm and gradient, of which no case has more than four in a row.
double parity_tolerance(Dtype dtype) {
  return dtype == Dtype::kFloat32 ? 32 * 0x1p-24 : 4 * 0x1p-9;
}

void check_parity(Exec& exec, const OpCase& op_case, BnMode bn, Dtype dtype) {
  OpRun reference(exec, op_case, Dtype::kFloat64), run(exec, op_case, dtype);
  const std::vector<Vector> inputs = inputs_of(op_case);
  const Vector dy = output_gradient(reference, bn, inputs);
  const double tolerance = parity_tolerance(dtype);
  for (const Wrt wrt : {Wrt::kBoth, Wrt::kInput}) {
    INFO("asked for " << (wrt == Wrt::kBoth ? "both gradients" : "the input's gradient"));
    const OpRun::Result expected = reference.run(wrt, bn, inputs, dy);
    const OpRun::Result actual = run.run(wrt, bn, inputs, dy);
    CHECK(relative_error(actual.y, expected.y) <= tolerance);
    for (size_t k = 0; k < inputs.size(); ++k)
      CHECK(relative_error(actual.dx[k], expected.dx[k]) <= tolerance);
    for (size_t k = 0; k < expected.gradients.size(); ++k) {
      INFO("parameter " << run.params().segments()[k].name);
      if (wrt == Wrt::kBoth)
        CHECK(relative_error(actual.gradients[k], expected.gradients[k]) <= tolerance);
    }
  }
}

}  // namespace

TEST_CASE("Every op's gradients agree with central differences", "[ops]") {
  Exec exec({}, 1);
  for_each_case([&](const OpCase& op_case, BnMode bn) { check_gradients(exec, op_case, bn); });
}

TEST_CASE("Gradients add up where an input and parameters are used twice", "[ops]") {
  Exec exec({}, 1);
  for_each_case(
      [&](const OpCase& op_case, BnMode bn) { check_gradients(exec, twice(op_case), bn); });
}

TEST_CASE("Every op gives the same gradients whichever are asked for", "[ops]") {
  Exec exec({}, 1);
  for_each_case(
      [&](const OpCase& op_case, BnMode bn) { check_choices_of_gradients(exec, op_case, bn); });
}

TEST_CASE("Every op in float32 agrees with float64", "[ops]") {
  Exec exec;
  for (const char* plan : {"direct", "winograd"}) {
    exec.plans().force(plan);
    INFO("convolutions by " << plan);
    for_each_case([&](const OpCase& op_case, BnMode bn) {
      check_parity(exec, op_case, bn, Dtype::kFloat32);
    });
  }
}

TEST_CASE("Every op in bfloat16 agrees with float64", "[ops]") {
  Exec exec;
  exec.plans().force("direct");
  for_each_case(
      [&](const OpCase& op_case, BnMode bn) { check_parity(exec, op_case, bn, Dtype::kBFloat16); });
}

// --- cross-entropy
// --------------------------------------------------------------------------------

namespace {

constexpr int64_t kSamples = 6, kClasses = 7;

Tensor labels_of(Pool& pool) {
  return tensor_of(pool, vector_shape(kSamples), {0, 6, 3, 3, 1, 5}, Dtype::kInt32);
}

struct LossValues {
  Vector loss, dlogits, prediction;
};

LossValues loss_of(Exec& exec, const Vector& logits, double weight, Wrt wrt,
                   Dtype dtype = Dtype::kFloat64) {
  Pool pool;
  ParamStore params(dtype);
  params.allocate();
  Pass p(exec, pool, params, {wrt, BnMode::kRunning, dtype});
  const Var x = p.input(tensor_of(pool, matrix_shape(kSamples, kClasses), logits, dtype));
  const Loss loss = cross_entropy(p, x, labels_of(pool), weight);
  return {values_of(loss.loss), loss.dlogits ? values_of(loss.dlogits) : Vector(),
          values_of(loss.prediction)};
}

}  // namespace

TEST_CASE("Cross-entropy's gradient agrees with central differences", "[ops]") {
  Exec exec({}, 1);
  const Vector logits = exact_vector(kSamples * kClasses, 51, -4, 4);
  for (const double weight : {1.0, 1.0 / kSamples}) {  // an attack's sum, training's mean
    INFO("weight " << weight);
    const LossValues at = loss_of(exec, logits, weight, Wrt::kInput);
    check_projections(at.dlogits, [&](const Vector& direction, double t) {
      const Vector loss = loss_of(exec, moved(logits, direction, t), weight, Wrt::kNothing).loss;
      return weight * dot(loss, Vector(loss.size(), 1));
    });
  }
}

TEST_CASE("Cross-entropy is per sample, forms no gradient unasked, and finds the largest logit",
          "[ops]") {
  Exec exec({}, 1);
  const Vector logits = exact_vector(kSamples * kClasses, 51, -4, 4);
  const LossValues quiet = loss_of(exec, logits, 1, Wrt::kNothing);
  CHECK(quiet.dlogits.empty());
  CHECK(quiet.loss == loss_of(exec, logits, 0.5, Wrt::kInput).loss);  // losses carry no weight
  const std::array<int, kSamples> labels = {0, 6, 3, 3, 1, 5};
  for (size_t n = 0; n < kSamples; ++n) {
    const double* z = logits.data() + n * kClasses;
    double total = 0;
    for (int64_t k = 0; k < kClasses; ++k) total += std::exp(z[k]);
    CHECK(quiet.loss[n] == Approx(std::log(total) - z[labels[n]]).epsilon(1e-14));
    CHECK(quiet.prediction[n] == static_cast<double>(std::max_element(z, z + kClasses) - z));
  }
  const LossValues expected = loss_of(exec, logits, 1, Wrt::kInput);
  const LossValues single = loss_of(exec, logits, 1, Wrt::kInput, Dtype::kFloat32);
  CHECK(relative_error(single.loss, expected.loss) <= parity_tolerance(Dtype::kFloat32));
  CHECK(relative_error(single.dlogits, expected.dlogits) <= parity_tolerance(Dtype::kFloat32));
}

}  // namespace ringfort::testing
