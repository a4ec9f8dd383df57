#include "tests/op_cases.h"

#include <array>

namespace ringfort::testing {
namespace {

using Vars = std::vector<Var>;
using Kind = OpInput::Kind;

constexpr int64_t kSize = 6;  // height and width of the images

Shape image(int64_t channels) { return {2, kSize, kSize, channels}; }

OpCase convolution(int64_t in, int64_t out, int kernel, int stride) {
  return {fmt::format("conv2d k{} s{} {} -> {}", kernel, stride, in, out),
          {{image(in)}},
          false,
          [=](LayerBuilder& build) -> Op {
            const ConvParams conv = build.conv("conv", in, out, kernel, stride);
            return {[=](Pass& p, Vars x) { return conv2d(p, std::move(x[0]), conv); }, {}};
          }};
}

// The residual is written over where nobody else holds it, and copied where somebody does.
OpCase convolution_add(int64_t in, int64_t out, bool shared) {
  return {
      fmt::format("conv2d_add {} -> {}, residual {}", in, out, shared ? "shared" : "not shared"),
      {{image(in)}, {image(out)}},
      false,
      [=](LayerBuilder& build) -> Op {
        const ConvParams conv = build.conv("conv", in, out, 3, 1);
        const Build alone = [=](Pass& p, Vars x) {
          return conv2d_add(p, std::move(x[0]), conv, std::move(x[1]));
        };
        const Build beside = [=](Pass& p, Vars x) {
          return add(p, conv2d_add(p, x[0], conv, x[1]), x[1]);
        };
        return {shared ? beside : alone, {}};
      }};
}

OpCase convolution_bias(int64_t in, int64_t out, bool rectified) {
  return {fmt::format("conv2d_bias {} -> {}{}", in, out, rectified ? ", relu" : ""),
          {{image(in)}},
          false,
          [=](LayerBuilder& build) -> Op {
            const ConvParams conv = build.conv_with_bias("conv", in, out, 3, 2);
            const auto with = [=](Activation activation) -> Build {
              return [=](Pass& p, Vars x) {
                return conv2d_bias(p, std::move(x[0]), conv, activation);
              };
            };
            if (!rectified) return {with(Activation::kNone), {}};
            return {with(Activation::kRelu), with(Activation::kNone)};
          }};
}

OpCase norm(int64_t channels, bool rectified) {
  return {fmt::format("batch_norm of {}{}", channels, rectified ? ", relu" : ""),
          {{image(channels)}},
          true,
          [=](LayerBuilder& build) -> Op {
            const NormParams norm = build.norm("norm", channels);
            const auto with = [=](Activation activation) -> Build {
              return
                  [=](Pass& p, Vars x) { return batch_norm(p, std::move(x[0]), norm, activation); };
            };
            if (!rectified) return {with(Activation::kNone), {}};
            return {with(Activation::kRelu), with(Activation::kNone)};
          }};
}

OpCase norm_add_relu(int64_t channels, bool shared) {
  return {fmt::format("batch_norm_add_relu of {}, residual {}", channels,
                      shared ? "shared" : "not shared"),
          {{image(channels)}, {image(channels)}},
          true,
          [=](LayerBuilder& build) -> Op {
            const NormParams norm = build.norm("norm", channels);
            const Build fused = [=](Pass& p, Vars x) {
              Var y = batch_norm_add_relu(p, x[0], norm, x[1]);
              return shared ? add(p, std::move(y), x[1]) : y;
            };
            return {fused, [=](Pass& p, Vars x) {
                      return add(p, batch_norm(p, x[0], norm, Activation::kNone), x[1]);
                    }};
          }};
}

OpCase convolution_norm_relu(int64_t in, int64_t out) {
  return {fmt::format("conv_norm_relu {} -> {}", in, out),
          {{image(in)}},
          true,
          [=](LayerBuilder& build) -> Op {
            const ConvParams conv = build.conv("conv", in, out, 3, 1);
            const NormParams norm = build.norm("norm", out);
            return {[=](Pass& p, Vars x) { return conv_norm_relu(p, std::move(x[0]), conv, norm); },
                    [=](Pass& p, Vars x) {
                      return batch_norm(p, conv2d(p, std::move(x[0]), conv), norm,
                                        Activation::kNone);
                    }};
          }};
}

OpCase convolution_norm(int64_t in, int64_t out) {
  return {fmt::format("conv_norm {} -> {}", in, out),
          {{image(in)}},
          true,
          [=](LayerBuilder& build) -> Op {
            const ConvParams conv = build.conv("conv", in, out, 1, 2);
            const NormParams norm = build.norm("norm", out);
            return {[=](Pass& p, Vars x) { return conv_norm(p, std::move(x[0]), conv, norm); }, {}};
          }};
}

// The residual is written over where nobody else holds it.
OpCase convolution_norm_add_relu(int64_t in, int64_t out, bool shared) {
  return {fmt::format("conv_norm_add_relu {} -> {}, residual {}", in, out,
                      shared ? "shared" : "not shared"),
          {{image(in)}, {image(out)}},
          true,
          [=](LayerBuilder& build) -> Op {
            const ConvParams conv = build.conv("conv", in, out, 3, 1);
            const NormParams norm = build.norm("norm", out);
            const Build fused = [=](Pass& p, Vars x) {
              Var beside = shared ? x[1] : Var{};
              Var y = conv_norm_add_relu(p, std::move(x[0]), conv, norm, std::move(x[1]));
              return shared ? add(p, std::move(y), std::move(beside)) : y;
            };
            return {fused, [=](Pass& p, Vars x) {
                      return add(
                          p,
                          batch_norm(p, conv2d(p, std::move(x[0]), conv), norm, Activation::kNone),
                          x[1]);
                    }};
          }};
}

// Both results are used, so that the gradients of the sum and of its norm-ReLU meet.
OpCase convolution_add_norm_relu(int64_t in, int64_t out, bool shared) {
  return {
      fmt::format("conv2d_add_norm_relu {} -> {}, residual {}", in, out,
                  shared ? "shared" : "not shared"),
      {{image(in)}, {image(out)}},
      true,
      [=](LayerBuilder& build) -> Op {
        const ConvParams conv = build.conv("conv", in, out, 3, 1);
        const NormParams norm = build.norm("norm", out);
        const Build fused = [=](Pass& p, Vars x) {
          Var beside = shared ? x[1] : Var{};
          SumAndNormed both = conv2d_add_norm_relu(p, std::move(x[0]), conv, std::move(x[1]), norm);
          Var y = add(p, std::move(both.sum), std::move(both.normed));
          return shared ? add(p, std::move(y), std::move(beside)) : y;
        };
        return {fused, [=](Pass& p, Vars x) {
                  return batch_norm(p, conv2d_add(p, x[0], conv, x[1]), norm, Activation::kNone);
                }};
      }};
}

OpCase convolution_with_norm_relu(int64_t in, int64_t out) {
  return {fmt::format("conv2d_with_norm_relu {} -> {}", in, out),
          {{image(in)}},
          true,
          [=](LayerBuilder& build) -> Op {
            const ConvParams conv = build.conv("conv", in, out, 1, 1);
            const NormParams norm = build.norm("norm", out);
            const Build fused = [=](Pass& p, Vars x) {
              SumAndNormed both = conv2d_with_norm_relu(p, std::move(x[0]), conv, norm);
              return add(p, std::move(both.sum), std::move(both.normed));
            };
            return {fused, [=](Pass& p, Vars x) {
                      return batch_norm(p, conv2d(p, x[0], conv), norm, Activation::kNone);
                    }};
          }};
}

// A norm of a norm, whose result goes to a convolution and a pooling: under constants a gate behind
// a gate, and gradients from a kernel that writes through gates and from one that does not.
OpCase gates(int64_t channels) {
  return {fmt::format("gates of {}", channels),
          {{image(channels)}},
          false,  // batch statistics of the second would undo the first
          [=](LayerBuilder& build) -> Op {
            const NormParams first = build.norm("first", channels),
                             second = build.norm("second", channels);
            const ConvParams conv = build.conv("conv", channels, channels, 3, 2);
            return {[=](Pass& p, Vars x) {
                      const Var between = batch_norm(p, x[0], first, Activation::kNone);
                      const Var z = batch_norm(p, between, second, Activation::kNone);
                      return conv2d_add(p, z, conv, avg_pool(p, z, {2, 2}));
                    },
                    {}};
          }};
}

OpCase grouped_norm(int64_t channels, int64_t groups) {
  return {fmt::format("group_norm of {} in {}", channels, groups),
          {{image(channels)}},
          false,
          [=](LayerBuilder& build) -> Op {
            const GroupNormParams norm = build.group_norm("norm", channels, groups);
            return {[=](Pass& p, Vars x) { return group_norm(p, std::move(x[0]), norm); }, {}};
          }};
}

// A smooth activation of a norm's output: under constants the norm is a gate that its gradient goes
// through.
OpCase smooth_after_norm(int64_t channels) {
  return {fmt::format("silu after batch_norm of {}", channels),
          {{image(channels)}},
          true,
          [=](LayerBuilder& build) -> Op {
            const NormParams norm = build.norm("norm", channels);
            return {[=](Pass& p, Vars x) {
                      return silu(p, batch_norm(p, std::move(x[0]), norm, Activation::kNone));
                    },
                    {}};
          }};
}

// A hidden layer stays in the dtype of the pass; logits are never bfloat16.
OpCase fully_connected(int64_t in, int64_t out, bool rectified) {
  return {fmt::format("linear {} -> {}{}", in, out, rectified ? ", relu" : ", logits"),
          {{matrix_shape(5, in)}},
          false,
          [=](LayerBuilder& build) -> Op {
            const LinearParams layer = build.linear("linear", in, out);
            const auto with = [=](Activation activation) -> Build {
              return [=](Pass& p, Vars x) {
                const Dtype dtype = p.options.dtype;
                const bool to_float32 = !rectified && dtype == Dtype::kBFloat16;
                return linear(p, std::move(x[0]), layer, activation,
                              to_float32 ? Dtype::kFloat32 : dtype);
              };
            };
            if (!rectified) return {with(Activation::kNone), {}};
            return {with(Activation::kRelu), with(Activation::kNone)};
          }};
}

OpCase without_parameters(const std::string& name, std::vector<OpInput> inputs, const Build& op,
                          const Build& before_relu = {}) {
  return {name, std::move(inputs), false, [=](LayerBuilder&) -> Op { return {op, before_relu}; }};
}

// x feeds a convolution, a norm and the sum itself: three gradients meet in x, from a VJP that adds
// to what is there, one that can only overwrite, and one that hands its own gradient on.
OpCase diamond(int64_t channels) {
  return {fmt::format("diamond of {}", channels),
          {{image(channels)}},
          true,
          [=](LayerBuilder& build) -> Op {
            const ConvParams conv = build.conv("conv", channels, channels, 3, 1);
            const NormParams norm = build.norm("norm", channels);
            return {[=](Pass& p, Vars x) {
                      const Var left = conv2d(p, x[0], conv);
                      const Var right = batch_norm(p, x[0], norm, Activation::kNone);
                      return add(p, add(p, left, x[0]), right);
                    },
                    {}};
          }};
}

OpCase normalization(int64_t channels) {
  return {
      fmt::format("normalize {}", channels),
      {{image(channels), Kind::kPixels}},
      false,
      [=](LayerBuilder&) -> Op {
        const Shape shape = vector_shape(channels);
        Pool pool;  // its blocks outlive it
        const Tensor scale = tensor_of(pool, shape, random_vector(channels, 11, 2, 5));
        const Tensor shift = tensor_of(pool, shape, random_vector(channels, 12, -2, 2));
        return {[=](Pass& p, Vars x) { return normalize(p, std::move(x[0]), scale, shift); }, {}};
      }};
}

void add_pointwise(std::vector<OpCase>& cases, int64_t channels) {
  const OpInput x{image(channels)};
  const auto named = [&](const char* op) { return fmt::format("{} of {}", op, channels); };
  cases.push_back(without_parameters(
      named("relu"), {x}, [](Pass& p, Vars in) { return relu(p, std::move(in[0])); },
      [](Pass&, Vars in) { return in[0]; }));
  cases.push_back(without_parameters(
      named("leaky_relu"), {x}, [](Pass& p, Vars in) { return leaky_relu(p, in[0], 0.125); },
      [](Pass&, Vars in) { return in[0]; }));
  cases.push_back(without_parameters(named("silu"), {x},
                                     [](Pass& p, Vars in) { return silu(p, std::move(in[0])); }));
  for (const double sharpness : {1.0, 5.0})
    cases.push_back(
        without_parameters(fmt::format("softplus of sharpness {} of {}", sharpness, channels), {x},
                           [=](Pass& p, Vars in) { return softplus(p, in[0], sharpness); }));
  cases.push_back(without_parameters(
      named("relu twice, beside its input"), {x},
      [](Pass& p, Vars in) {
        const Var y = relu(p, in[0]);
        return add(p, add(p, relu(p, y), y), in[0]);
      },
      [](Pass&, Vars in) { return in[0]; }));
  cases.push_back(without_parameters(named("add"), {x, x},
                                     [](Pass& p, Vars in) { return add(p, in[0], in[1]); }));
  cases.push_back(without_parameters(named("add to itself"), {x},
                                     [](Pass& p, Vars in) { return add(p, in[0], in[0]); }));
  cases.push_back(without_parameters(  // without a draw: nothing drops
      named("dropout"), {x}, [](Pass& p, Vars in) { return dropout(p, in[0], 0.5, 0); }));
  cases.push_back(without_parameters(named("flatten"), {x},
                                     [](Pass& p, Vars in) { return flatten(p, in[0]); }));
  cases.push_back(diamond(channels));
  cases.push_back(gates(channels));
}

void add_pooling(std::vector<OpCase>& cases, int64_t channels) {
  const OpInput x{image(channels)}, distinct{image(channels), Kind::kDistinct};
  for (const PoolWindow window : {PoolWindow{2, 2}, PoolWindow{3, 2}, PoolWindow{3, 1}}) {
    const auto named = [&](const char* op) {
      return fmt::format("{} {} s{} of {}", op, window.size, window.stride, channels);
    };
    cases.push_back(without_parameters(named("avg_pool"), {x}, [=](Pass& p, Vars in) {
      return avg_pool(p, std::move(in[0]), window);
    }));
    cases.push_back(without_parameters(named("max_pool"), {distinct}, [=](Pass& p, Vars in) {
      return max_pool(p, std::move(in[0]), window);
    }));
  }
  cases.push_back(without_parameters(fmt::format("max_pool 3 s2 p1 of {}", channels), {distinct},
                                     [](Pass& p, Vars in) {
                                       return max_pool(p, std::move(in[0]), {3, 2, 1});
                                     }));
  cases.push_back(
      without_parameters(fmt::format("global_avg_pool of {}", channels), {x},
                         [](Pass& p, Vars in) { return global_avg_pool(p, std::move(in[0])); }));
}

std::vector<OpCase> make_cases() {
  std::vector<OpCase> cases;
  for (const auto& [in, out] : {std::array<int64_t, 2>{3, 5}, {16, 32}, {3, 16}}) {
    cases.push_back(convolution(in, out, 3, 1));
    cases.push_back(convolution(in, out, 3, 2));
    cases.push_back(convolution(in, out, 1, 2));
    cases.push_back(convolution_add(in, out, false));
    cases.push_back(convolution_add(in, out, true));
    cases.push_back(convolution_bias(in, out, false));
    cases.push_back(convolution_bias(in, out, true));
    cases.push_back(convolution_norm(in, out));
    cases.push_back(convolution_norm_relu(in, out));
    for (const bool shared : {false, true})
      cases.push_back(convolution_norm_add_relu(in, out, shared));
    for (const bool shared : {false, true}) cases.push_back(norm_add_relu(out, shared));
    cases.push_back(convolution_with_norm_relu(in, out));
    cases.push_back(convolution_add_norm_relu(in, out, false));
    cases.push_back(convolution_add_norm_relu(in, out, true));
  }
  for (const int64_t channels : {5, 32}) {
    cases.push_back(norm(channels, false));
    cases.push_back(norm(channels, true));
    cases.push_back(smooth_after_norm(channels));
    add_pointwise(cases, channels);
    add_pooling(cases, channels);
  }
  cases.push_back(grouped_norm(6, 3));
  cases.push_back(grouped_norm(5, 1));
  cases.push_back(grouped_norm(32, 4));   // groups of half a block
  cases.push_back(grouped_norm(48, 2));   // and of one and a half
  cases.push_back(grouped_norm(16, 16));  // instance norm
  cases.push_back(normalization(1));
  cases.push_back(normalization(3));
  cases.push_back(fully_connected(7, 5, false));
  cases.push_back(fully_connected(64, 48, true));
  return cases;
}

}  // namespace

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> cases = make_cases();
  return cases;
}

}  // namespace ringfort::testing
