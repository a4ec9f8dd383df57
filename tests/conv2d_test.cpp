// Convolutions: every implementation that oneDNN offers for a shape against the float64 reference,
// prepared filters, and what is refused.
#include <catch2/catch.hpp>

#include "kernels/conv2d.h"
#include "kernels/conv2d_onednn.h"
#include "kernels/conv2d_reference.h"
#include "kernels/plans.h"
#include "tests/conv_cases.h"

namespace ringfort {
namespace {

// Runs `product` as measured, then forced to each candidate that was offered, and checks each
// result. product(): computes and returns the result. check(result, candidate name).
template <class Product, class Check>
void with_all_candidates(Exec& exec, Product product, Check check) {
  const size_t before = exec.plans().entries().size();
  (void)product();
  const std::vector<PlanEntry> entries = exec.plans().entries();
  REQUIRE(entries.size() == before + 1);
  for (const PlanEntry& entry : entries) {
    for (const PlanCandidate& candidate : entry.candidates) {
      exec.plans().force(candidate.name);
      INFO(entry.key << ": " << candidate.name);
      check(product(), candidate.name);
    }
  }
  exec.plans().force("");
}

bool is_winograd(const std::string& name) { return name.starts_with("winograd"); }

void check_forward(const ConvCase& c, Dtype dtype, Layout x_layout, Layout y_layout, bool with_bias,
                   bool accumulate, bool relu) {
  Exec exec({}, 2);
  const Values x = rounded(some_values(c.x().count(), 1), dtype),
               w = rounded(some_values(c.filter().count(), 2), dtype);
  const Values before = rounded(some_values(c.y().count(), 3), dtype);
  const Values bias = rounded(some_values(c.outputs, 4), Dtype::kFloat32);
  const auto reference = [&](const Values& xs, const Values& ws, const Values& ys, const Values& bs,
                             bool rectify) {
    const Array x64(c.x(), Dtype::kFloat64, Layout::kChannelsLast, xs);
    const Array w64(c.filter(), Dtype::kFloat64, Layout::kChannelsLast, ws);
    const Array y64(c.y(), Dtype::kFloat64, Layout::kChannelsLast, ys);
    const Array b64(vector_shape(c.outputs), Dtype::kFloat64, Layout::kChannelsLast, bs);
    const ProductEpilogue epilogue{with_bias ? &b64.view() : nullptr, accumulate, rectify};
    conv2d_forward_reference<double>(exec, y64, x64, w64, c.options(), epilogue);
    return y64.values();
  };
  const Values exact = reference(x, w, before, bias, relu);
  const Values magnitude =
      reference(absolute(x), absolute(w), absolute(before), absolute(bias), false);

  const Array x_array(c.x(), dtype, x_layout, x),
      w_array(c.filter(), dtype, Layout::kChannelsLast, w);
  const Array b_array(vector_shape(c.outputs), Dtype::kFloat32, Layout::kChannelsLast, bias);
  with_all_candidates(
      exec,
      [&] {
        const Array y(c.y(), dtype, y_layout, before);
        conv2d_forward(exec, y, x_array, {w_array}, c.options(),
                       {.bias = with_bias ? &b_array.view() : nullptr,
                        .residual = accumulate ? &y.view() : nullptr,
                        .relu = relu});
        return y.values();
      },
      [&](const Values& y, const std::string& name) {
        CHECK(worst_ratio(y, exact, magnitude, c.filter().per_sample(), dtype, is_winograd(name)) <=
              1);
      });
}

void check_dgrad(const ConvCase& c, Dtype dtype, Dtype result, Layout x_layout, Layout y_layout) {
  Exec exec({}, 2);
  const Values dy = rounded(some_values(c.y().count(), 1), dtype),
               w = rounded(some_values(c.filter().count(), 2), dtype);
  const auto reference = [&](const Values& dys, const Values& ws) {
    const Array dy64(c.y(), Dtype::kFloat64, Layout::kChannelsLast, dys);
    const Array w64(c.filter(), Dtype::kFloat64, Layout::kChannelsLast, ws);
    const Array dx64(c.x(), Dtype::kFloat64);
    conv2d_dgrad_reference<double>(exec, dx64, dy64, w64, c.options());
    return dx64.values();
  };
  const Values exact = reference(dy, w), magnitude = reference(absolute(dy), absolute(w));
  const Array dy_array(c.y(), dtype, y_layout, dy),
      w_array(c.filter(), dtype, Layout::kChannelsLast, w);
  const auto run = [&](auto function) {
    const Array dx(c.x(), result, x_layout, some_values(c.x().count(), 9));  // must be overwritten
    function(dx);
    return dx.values();
  };
  const auto check = [&](const Values& dx, const std::string& name) {
    const int64_t terms = c.outputs * c.kernel * c.kernel;
    CHECK(worst_ratio(dx, exact, magnitude, terms, result, is_winograd(name)) <= 1);
  };
  const auto by_onednn = [&](View dx) {
    conv2d_dgrad_onednn(exec, dx, dy_array, {w_array}, c.options());
  };
  with_all_candidates(
      exec, [&] { return run(by_onednn); }, check);
  // To few channels this is another one.
  check(run([&](View dx) { conv2d_dgrad(exec, dx, dy_array, {w_array}, c.options()); }), "");
}

void check_wgrad(const ConvCase& c, Dtype dtype, Layout x_layout, Layout y_layout, float beta) {
  Exec exec({}, 2);
  const Values x = rounded(some_values(c.x().count(), 1), dtype),
               dy = rounded(some_values(c.y().count(), 2), dtype);
  const Values before = rounded(some_values(c.filter().count(), 3), Dtype::kFloat32);
  const auto reference = [&](const Values& xs, const Values& dys, const Values& dws) {
    const Array x64(c.x(), Dtype::kFloat64, Layout::kChannelsLast, xs);
    const Array dy64(c.y(), Dtype::kFloat64, Layout::kChannelsLast, dys);
    const Array dw64(c.filter(), Dtype::kFloat64, Layout::kChannelsLast, dws);
    conv2d_wgrad_reference<double>(exec, dw64, x64, dy64, c.options(), beta);
    return dw64.values();
  };
  const Values exact = reference(x, dy, before);
  const Values magnitude = reference(absolute(x), absolute(dy), absolute(before));
  const Array x_array(c.x(), dtype, x_layout, x), dy_array(c.y(), dtype, y_layout, dy);
  with_all_candidates(
      exec,
      [&] {
        const Array dw(c.filter(), Dtype::kFloat32, Layout::kChannelsLast, before);
        conv2d_wgrad(exec, dw, x_array, dy_array, c.options(), beta);
        return dw.values();
      },
      [&](const Values& dw, const std::string& name) {
        CHECK(worst_ratio(dw, exact, magnitude, c.y().pixels(), Dtype::kFloat32,
                          is_winograd(name)) <= 1);
      });
}

}  // namespace

TEST_CASE("conv2d forward: every implementation agrees with the float64 reference", "[conv2d]") {
  for (const ConvCase& c : kCases) {
    for (const Layout x_layout : layouts_for(c.inputs))
      for (const Layout y_layout : layouts_for(c.outputs)) {
        INFO(name_of(c));
        check_forward(c, Dtype::kFloat32, x_layout, y_layout, false, false, false);
        check_forward(c, Dtype::kFloat32, x_layout, y_layout, true, false, true);
        check_forward(c, Dtype::kFloat32, x_layout, y_layout, true, true, true);
        check_forward(c, Dtype::kFloat32, x_layout, y_layout, false, true, false);
        check_forward(c, Dtype::kBFloat16, x_layout, y_layout, false, false, false);
        check_forward(c, Dtype::kBFloat16, x_layout, y_layout, true, true, true);
      }
  }
}

TEST_CASE("conv2d dgrad: every implementation agrees with the float64 reference", "[conv2d]") {
  for (const ConvCase& c : kCases)
    for (const Layout x_layout : layouts_for(c.inputs))
      for (const Layout y_layout : layouts_for(c.outputs)) {
        INFO(name_of(c));
        check_dgrad(c, Dtype::kFloat32, Dtype::kFloat32, x_layout, y_layout);
        check_dgrad(c, Dtype::kBFloat16, Dtype::kBFloat16, x_layout, y_layout);
        check_dgrad(c, Dtype::kBFloat16, Dtype::kFloat32, x_layout, y_layout);
      }
}

TEST_CASE("conv2d wgrad: every implementation agrees with the float64 reference", "[conv2d]") {
  for (const ConvCase& c : kCases)
    for (const Layout x_layout : layouts_for(c.inputs))
      for (const Layout y_layout : layouts_for(c.outputs))
        for (const float beta : {0.0f, 1.0f}) {
          INFO(name_of(c) << " beta " << beta);
          check_wgrad(c, Dtype::kFloat32, x_layout, y_layout, beta);
          check_wgrad(c, Dtype::kBFloat16, x_layout, y_layout, beta);
        }
}

TEST_CASE("conv2d: the fast implementations are offered where they matter", "[conv2d]") {
  if (!conv2d_prefers_blocks()) {
    WARN("skipped: oneDNN has these implementations with AVX-512 only");
    return;
  }
  Exec exec({}, 2);
  const auto offered = [&](Dtype dtype, const Shape& x, const Shape& filter, bool dgrad) {
    const ConvOptions options{1, 1};
    const Shape y = conv2d_shape(x, filter, options);
    const Layout x_layout = x.c % 16 == 0 ? Layout::kBlocked16 : Layout::kChannelsLast;
    const Array x_array(x, dtype, x_layout), y_array(y, dtype, Layout::kBlocked16),
        w_array(filter, dtype);
    if (dgrad)
      conv2d_dgrad_onednn(exec, x_array, y_array, {w_array}, options);
    else
      conv2d_forward(exec, y_array, x_array, {w_array}, options,
                     {.residual = &y_array.view(), .relu = true});
    std::string names;
    for (const PlanEntry& entry : exec.plans().entries())
      for (const PlanCandidate& candidate : entry.candidates) names += candidate.name + " ";
    return names;
  };
  using Catch::Contains;
  SECTION("Winograd with an epilogue") {
    CHECK_THAT(offered(Dtype::kFloat32, {2, 8, 8, 32}, {32, 3, 3, 32}, false),
               Contains("winograd"));
  }
  SECTION("Winograd for the gradient") {
    CHECK_THAT(offered(Dtype::kFloat32, {2, 8, 8, 32}, {32, 3, 3, 32}, true), Contains("winograd"));
  }
  SECTION("16 channels for the gradient to 3") {
    CHECK_THAT(offered(Dtype::kFloat32, {2, 8, 8, 3}, {32, 3, 3, 3}, true), Contains("padded"));
    CHECK_THAT(offered(Dtype::kBFloat16, {2, 8, 8, 3}, {32, 3, 3, 3}, true), Contains("padded"));
  }
}

TEST_CASE("conv2d: a prepared filter is made anew when its version changes, and only then",
          "[conv2d]") {
  Exec exec({}, 2);
  const ConvCase c{2, 8, 8, 32, 32, 3, 1, 1};
  for (const char* name : {"direct", "winograd"}) {
    exec.plans().force(name);
    INFO(name);
    const Array x(c.x(), Dtype::kFloat32, Layout::kBlocked16, some_values(c.x().count(), 1));
    const Array first(c.filter(), Dtype::kFloat32, Layout::kChannelsLast,
                      some_values(c.filter().count(), 2));
    const Array second(c.filter(), Dtype::kFloat32, Layout::kChannelsLast,
                       some_values(c.filter().count(), 3));
    const auto forward = [&](const Filter& filter) {
      const Array y(c.y(), Dtype::kFloat32, Layout::kBlocked16);
      conv2d_forward(exec, y, x, filter, c.options());
      return y.values();
    };
    const auto dgrad = [&](const Filter& filter) {
      const Array dx(c.x(), Dtype::kFloat32, Layout::kBlocked16);
      conv2d_dgrad(exec, dx, x, filter, c.options());
      return dx.values();
    };
    PreparedFilter prepared;
    CHECK(forward({first, 1, &prepared}) == forward({first}));
    CHECK(forward({second, 1, &prepared}) == forward({first}));   // not read again
    CHECK(forward({second, 2, &prepared}) == forward({second}));  // seen
    CHECK(dgrad({second, 2, &prepared}) == dgrad({second}));  // another form of the same version
    CHECK(dgrad({first, 2, &prepared}) == dgrad({second}));
    CHECK(dgrad({first, 3, &prepared}) == dgrad({first}));
    CHECK(forward({first, 3, &prepared}) == forward({first}));
  }
}

TEST_CASE("conv2d: results repeat bit for bit, and scratch stops growing", "[conv2d]") {
  Exec exec({}, 2);
  const ConvCase c{2, 16, 16, 32, 32, 3, 1, 1};
  for (const char* name : {"direct", "winograd"}) {
    exec.plans().force(name);
    INFO(name);
    const Array x(c.x(), Dtype::kFloat32, Layout::kBlocked16, some_values(c.x().count(), 1));
    const Array w(c.filter(), Dtype::kFloat32, Layout::kChannelsLast,
                  some_values(c.filter().count(), 2));
    const Array y(c.y(), Dtype::kFloat32, Layout::kBlocked16), dw(c.filter(), Dtype::kFloat32);
    const auto run = [&] {
      conv2d_forward(exec, y, x, {w}, c.options());
      conv2d_wgrad(exec, dw, x, y, c.options(), 0);
      return std::pair(y.values(), dw.values());
    };
    const auto first = run();
    const void* scratch = exec.scratch(0);
    CHECK(run() == first);
    CHECK(exec.scratch(0) == scratch);
  }
}

TEST_CASE("conv2d: one Exec keeps its plans apart", "[conv2d]") {
  struct Variant {
    ConvCase conv;
    Dtype dtype = Dtype::kFloat32;
    Layout x_layout = Layout::kBlocked16, y_layout = Layout::kBlocked16;
    bool bias = false, accumulate = false, relu = false;
  };
  const Layout last = Layout::kChannelsLast;
  const ConvCase base{2, 8, 8, 32, 32, 3, 1, 1};  // 16 channels lie alike in both layouts
  const Variant variants[] = {{.conv = base},
                              {.conv = {3, 8, 8, 32, 32, 3, 1, 1}},
                              {.conv = {2, 9, 8, 32, 32, 3, 1, 1}},
                              {.conv = {2, 8, 9, 32, 32, 3, 1, 1}},
                              {.conv = {2, 8, 8, 48, 32, 3, 1, 1}},
                              {.conv = {2, 8, 8, 32, 48, 3, 1, 1}},
                              {.conv = {2, 8, 8, 32, 32, 1, 1, 1}},
                              {.conv = {2, 8, 8, 32, 32, 3, 2, 1}},
                              {.conv = {2, 8, 8, 32, 32, 3, 1, 0}},
                              {.conv = base, .dtype = Dtype::kBFloat16},
                              {.conv = base, .x_layout = last},
                              {.conv = base, .y_layout = last},
                              {.conv = base, .bias = true},
                              {.conv = base, .accumulate = true},
                              {.conv = base, .relu = true}};
  const auto run = [](Exec& exec, const Variant& v) {
    const ConvCase& c = v.conv;
    const Array x(c.x(), v.dtype, v.x_layout, some_values(c.x().count(), 1));
    const Array w(c.filter(), v.dtype, Layout::kChannelsLast, some_values(c.filter().count(), 2));
    const Array y(c.y(), v.dtype, v.y_layout, some_values(c.y().count(), 3));
    const Array dx(c.x(), v.dtype, v.x_layout);
    const Array dw(c.filter(), Dtype::kFloat32, Layout::kChannelsLast,
                   some_values(c.filter().count(), 4));
    const Array bias(vector_shape(c.outputs), Dtype::kFloat32, Layout::kChannelsLast,
                     some_values(c.outputs, 5));
    conv2d_dgrad(exec, dx, y, {w}, c.options());
    conv2d_wgrad(exec, dw, x, y, c.options(), v.accumulate ? 1.0f : 0.0f);
    conv2d_forward(exec, y, x, {w}, c.options(),
                   {.bias = v.bias ? &bias.view() : nullptr,
                    .residual = v.accumulate ? &y.view() : nullptr,
                    .relu = v.relu});
    return std::tuple(y.values(), dx.values(), dw.values());
  };
  Exec shared({}, 2);
  shared.plans().force("direct");
  for (const Variant& variant : variants) {
    Exec own({}, 2);
    own.plans().force("direct");
    INFO("variant " << &variant - variants);
    CHECK(run(shared, variant) == run(own, variant));
  }
}

TEST_CASE("conv2d: no samples", "[conv2d]") {
  Exec exec({}, 2);
  const Shape none{0, 8, 8, 16}, filter{16, 3, 3, 16};
  const Array x(none, Dtype::kFloat32), y(none, Dtype::kFloat32), w(filter, Dtype::kFloat32);
  const Array dw(filter, Dtype::kFloat32, Layout::kChannelsLast, some_values(filter.count(), 1));
  const Values before = dw.values();
  conv2d_forward(exec, y, x, {w}, {1, 1});
  conv2d_dgrad(exec, x, y, {w}, {1, 1});
  conv2d_wgrad(exec, dw, x, y, {1, 1}, 1);
  CHECK(dw.values() == before);
  conv2d_wgrad(exec, dw, x, y, {1, 1}, 0);
  CHECK(dw.values() == Values(before.size(), 0.0));
}

TEST_CASE("conv2d: what does not fit is refused with a sentence", "[conv2d]") {
  using Catch::Contains;
  Exec exec({}, 1);
  const Array x({2, 8, 8, 16}, Dtype::kFloat32), w({32, 3, 3, 16}, Dtype::kFloat32),
      y({2, 8, 8, 32}, Dtype::kFloat32);
  const Array other({2, 8, 8, 4}, Dtype::kFloat32), x64({2, 8, 8, 16}, Dtype::kFloat64);
  const Array bias(vector_shape(3), Dtype::kFloat32), w16({32, 3, 3, 16}, Dtype::kBFloat16);
  const Array bytes({2, 8, 8, 16}, Dtype::kUint8);
  const View odd{nullptr, Dtype::kFloat32, {2, 8, 8, 20}, Layout::kBlocked16};
  CHECK_THROWS_WITH(
      conv2d_forward(exec, y, other, {w}, {1, 1}),
      Contains("input (2, 8, 8, 4) has 4 channels, filter (32, 3, 3, 16) expects 16"));
  CHECK_THROWS_WITH(conv2d_forward(exec, y, x, {w}, {1, 0}),
                    Contains("make (2, 6, 6, 32), not (2, 8, 8, 32)"));
  CHECK_THROWS_WITH(conv2d_forward(exec, y, x, {w}, {0, 1}), Contains("stride 0"));
  CHECK_THROWS_WITH(conv2d_forward(exec, y, x64, {w}, {1, 1}), Contains("float64"));
  CHECK_THROWS_WITH(conv2d_forward(exec, y, bytes, {w}, {1, 1}),
                    Contains("no implementation for uint8"));
  CHECK_THROWS_WITH(conv2d_forward(exec, y, x, {w}, {1, 1}, {.bias = &bias.view()}),
                    Contains("the bias has 3 values for 32 channels"));
  CHECK_THROWS_WITH(conv2d_wgrad(exec, w, x, y, {1, 1}, 0.5f), Contains("beta is 0.5"));
  CHECK_THROWS_WITH(conv2d_dgrad(exec, odd, y, {w}, {1, 1}), Contains("no multiple of 16"));
  CHECK_THROWS_WITH(conv2d_shape({1, 2, 2, 16}, {32, 5, 5, 16}, {1, 1}),
                    Contains("larger than input"));
  CHECK_THROWS_WITH(Exec({DeviceKind::kCuda, 0}), Contains("no CUDA backend; use --device cpu"));
}

}  // namespace ringfort
