#include "kernels/conv2d_plan.h"

namespace ringfort {
namespace {

using dnnl::memory;

// The convolution that is asked of oneDNN: sizes and the formats it may choose from. For a rotated
// candidate `in` is dy and `out` is dx.
struct Request {
  memory::desc in, filter, out, bias;
  memory::dims strides, pad, end;
  dnnl::algorithm algorithm;
};

// What it answers with.
struct Product {
  dnnl::primitive primitive;
  dnnl::primitive_desc_base description;
  std::string implementation;
  memory::desc in, filter, out;
};

memory::dims dims_of(const Shape& shape, int64_t channels) {
  return {shape.n, channels, shape.h, shape.w};
}

memory::desc view_desc(Dtype dtype, const Shape& shape, Layout layout) {
  const auto tag =
      layout == Layout::kBlocked16 ? memory::format_tag::nChw16c : memory::format_tag::nhwc;
  return {dims_of(shape, shape.c), onednn_type(dtype), tag};
}

memory::desc wanted_desc(Dtype dtype, const Shape& shape, int64_t channels, Layout layout,
                         ConvFormat format) {
  auto tag = layout == Layout::kBlocked16 ? memory::format_tag::nChw16c : memory::format_tag::nhwc;
  if (format == ConvFormat::kBlocked)
    tag = channels % 16 == 0 ? memory::format_tag::nChw16c : memory::format_tag::nchw;
  if (format == ConvFormat::kAny) tag = memory::format_tag::any;
  return {dims_of(shape, channels), onednn_type(dtype), tag};
}

Dtype x_dtype(const ConvProblem& p) {
  return p.direction == ConvDirection::kDgrad ? p.result_dtype : p.dtype;
}
Dtype y_dtype(const ConvProblem& p) {
  return p.direction == ConvDirection::kForward ? p.result_dtype : p.dtype;
}
Dtype w_dtype(const ConvProblem& p) {
  return p.direction == ConvDirection::kWgrad ? p.result_dtype : p.dtype;
}

int64_t channels_of_x(const ConvProblem& problem, const ConvCandidate& candidate) {
  return candidate.padded ? 16 : problem.x.c;
}

Request request_for(const ConvProblem& p, const ConvCandidate& candidate) {
  const int64_t inputs = channels_of_x(p, candidate), outputs = p.filter.n;
  const memory::desc x = wanted_desc(x_dtype(p), p.x, inputs, p.x_layout, candidate.format);
  const memory::desc y = wanted_desc(y_dtype(p), p.y, outputs, p.y_layout, candidate.format);
  const auto filter = [&](int64_t to, int64_t from) {
    return memory::desc({to, from, p.filter.h, p.filter.w}, onednn_type(w_dtype(p)),
                        memory::format_tag::any);
  };
  const memory::desc bias =
      p.bias ? memory::desc({outputs}, memory::data_type::f32, memory::format_tag::x)
             : memory::desc();
  const auto algorithm = candidate.winograd ? dnnl::algorithm::convolution_winograd
                                            : dnnl::algorithm::convolution_direct;
  const memory::dims strides = {p.options.stride, p.options.stride},
                     pad = {p.options.pad, p.options.pad}, end = {p.options.end(), p.options.end()};
  if (!candidate.rotated)
    return {x, filter(outputs, inputs), y, bias, strides, pad, end, algorithm};
  const auto rest = [&](int padding) {
    return memory::dims{p.filter.h - 1 - padding, p.filter.w - 1 - padding};
  };
  return {y,
          filter(inputs, outputs),
          x,
          bias,
          strides,
          rest(p.options.pad),
          rest(p.options.end()),
          algorithm};
}

// forward_inference: filters do not change between calls, so that a Winograd filter is transformed
// ahead.
Product forward_product(const dnnl::engine& engine, const Request& r, bool accumulate, bool relu) {
  using Forward = dnnl::convolution_forward;
  const auto kind = dnnl::prop_kind::forward_inference;
  const Forward::desc operation =
      r.bias.is_zero()
          ? Forward::desc(kind, r.algorithm, r.in, r.filter, r.out, r.strides, r.pad, r.end)
          : Forward::desc(kind, r.algorithm, r.in, r.filter, r.bias, r.out, r.strides, r.pad,
                          r.end);
  const Forward::primitive_desc description(operation, epilogue_attributes(accumulate, relu),
                                            engine);
  return {Forward(description),        description,
          description.impl_info_str(), description.src_desc(),
          description.weights_desc(),  description.dst_desc()};
}

// oneDNN's backward products ask for the description of a forward one as a hint; of its sizes only.
dnnl::convolution_forward::primitive_desc hint(const dnnl::engine& engine, const Request& r) {
  const auto any = [](const memory::desc& desc) {
    return memory::desc(desc.dims(), memory::data_type::f32, memory::format_tag::any);
  };
  return {{dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, any(r.in),
           any(r.filter), any(r.out), r.strides, r.pad, r.end},
          engine};
}

// Asked with `in` = dx and `out` = dy, as the convolution has them; answers with dy in and dx out.
Product dgrad_product(const dnnl::engine& engine, const Request& r) {
  using Backward = dnnl::convolution_backward_data;
  const Backward::desc operation(r.algorithm, r.in, r.filter, r.out, r.strides, r.pad, r.end);
  const Backward::primitive_desc description(operation, sequence_attributes(), engine,
                                             hint(engine, r));
  return {Backward(description),       description,
          description.impl_info_str(), description.diff_dst_desc(),
          description.weights_desc(),  description.diff_src_desc()};
}

Product wgrad_product(const dnnl::engine& engine, const Request& r) {
  using Backward = dnnl::convolution_backward_weights;
  const Backward::desc operation(r.algorithm, r.in, r.filter, r.out, r.strides, r.pad, r.end);
  const Backward::primitive_desc description(operation, sequence_attributes(), engine,
                                             hint(engine, r));
  return {Backward(description),           description,
          description.impl_info_str(),     description.src_desc(),
          description.diff_weights_desc(), description.diff_dst_desc()};
}

Product make_product(const dnnl::engine& engine, const ConvProblem& p,
                     const ConvCandidate& candidate) {
  const Request request = request_for(p, candidate);
  if (p.direction == ConvDirection::kForward || candidate.rotated)
    return forward_product(engine, request, p.accumulate, p.relu);
  return p.direction == ConvDirection::kDgrad ? dgrad_product(engine, request)
                                              : wgrad_product(engine, request);
}

// An operand: where the caller has it, copied first if the product wants another format.
memory operand(Sequence& sequence, Base base, const memory::desc& view,
               const memory::desc& wanted) {
  const memory given = sequence.at(base, view);
  if (view == wanted) return given;
  const memory copy = sequence.scratch(wanted);
  sequence.add_reorder(given, copy);
  return copy;
}

// The result: straight to the caller, or to scratch and from there by finish().
struct Result {
  memory given, computed;
  bool copied() const { return given.get() != computed.get(); }
};

Result result(Sequence& sequence, const memory::desc& view, const memory::desc& wanted) {
  const memory given = sequence.at(Base::kOutput, view);
  return {given, view == wanted ? given : sequence.scratch(wanted)};
}

// The first channels of a result with 16 of them, as a descriptor of that memory: one block is
// channels last.
memory::desc first_channels(const ConvProblem& p) {
  const auto [samples, height, width, channels] = p.x;
  return {{samples, channels, height, width},
          onednn_type(x_dtype(p)),
          memory::dims{16 * height * width, 1, 16 * width, 16}};
}

void add_forward(Sequence& sequence, const ConvProblem& p, const Product& product) {
  const memory x = operand(sequence, Base::kFirst, view_desc(p.dtype, p.x, p.x_layout), product.in);
  const Result y = result(sequence, view_desc(p.result_dtype, p.y, p.y_layout), product.out);
  if (y.copied() && p.accumulate) sequence.add_reorder(y.given, y.computed);
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, x},
      {DNNL_ARG_WEIGHTS, sequence.at(Base::kSecond, product.filter)},
      {DNNL_ARG_DST, y.computed}};
  if (p.bias)
    arguments[DNNL_ARG_BIAS] =
        sequence.at(Base::kBias, {{p.filter.n}, memory::data_type::f32, memory::format_tag::x});
  sequence.add(product.primitive, product.description, std::move(arguments));
  if (y.copied()) sequence.add_reorder(y.computed, y.given);
}

void add_dgrad(Sequence& sequence, const ConvProblem& p, const ConvCandidate& candidate,
               const Product& product) {
  const memory dy =
      operand(sequence, Base::kFirst, view_desc(p.dtype, p.y, p.y_layout), product.in);
  const Result dx = result(sequence, view_desc(p.result_dtype, p.x, p.x_layout), product.out);
  sequence.add(product.primitive, product.description,
               {{candidate.rotated ? DNNL_ARG_SRC : DNNL_ARG_DIFF_DST, dy},
                {DNNL_ARG_WEIGHTS, sequence.at(Base::kSecond, product.filter)},
                {candidate.rotated ? DNNL_ARG_DST : DNNL_ARG_DIFF_SRC, dx.computed}});
  if (candidate.padded)
    sequence.add_reorder(sequence.alias(dx.computed, first_channels(p)), dx.given);
  else if (dx.copied())
    sequence.add_reorder(dx.computed, dx.given);
}

void add_wgrad(Sequence& sequence, const ConvProblem& p, const Product& product) {
  const auto [outputs, height, width, inputs] = p.filter;
  const memory::desc stored({outputs, inputs, height, width}, onednn_type(p.result_dtype),
                            memory::format_tag::ohwi);
  const memory x = operand(sequence, Base::kFirst, view_desc(p.dtype, p.x, p.x_layout), product.in);
  const memory dy =
      operand(sequence, Base::kSecond, view_desc(p.dtype, p.y, p.y_layout), product.out);
  const memory given = sequence.at(Base::kOutput, stored);
  const bool copied = p.accumulate || product.filter != stored;
  const memory computed = copied ? sequence.scratch(product.filter) : given;
  sequence.add(product.primitive, product.description,
               {{DNNL_ARG_SRC, x}, {DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_DIFF_WEIGHTS, computed}});
  if (copied) sequence.add_reorder(computed, given, p.accumulate);
}

std::shared_ptr<FilterForm> form_for(OneDnn& library, FilterForms& forms,
                                     const FilterForm::Source& source, const memory::desc& target) {
  for (const auto& form : forms)
    if (form->is(source, target)) return form;
  forms.push_back(std::make_shared<FilterForm>(library, source, target));
  return forms.back();
}

bool wants_views_as_they_are(const ConvProblem& p, const Product& product) {
  const memory::desc x = view_desc(x_dtype(p), p.x, p.x_layout),
                     y = view_desc(y_dtype(p), p.y, p.y_layout);
  const bool y_first = p.direction == ConvDirection::kDgrad;
  return product.in == (y_first ? y : x) && product.out == (y_first ? x : y);
}

}  // namespace

std::optional<ConvPlan> build_plan(OneDnn& library, FilterForms& forms, const ConvProblem& problem,
                                   const ConvCandidate& candidate) {
  try {
    const Product product = make_product(library.engine(), problem, candidate);
    if (candidate.format == ConvFormat::kAny && wants_views_as_they_are(problem, product))
      return {};
    ConvPlan plan{candidate.name, Sequence(library.engine()), nullptr,
                  product.implementation.starts_with("ref")};
    if (problem.direction == ConvDirection::kWgrad) {
      add_wgrad(plan.sequence, problem, product);
      return plan;
    }
    if (problem.direction == ConvDirection::kForward)
      add_forward(plan.sequence, problem, product);
    else
      add_dgrad(plan.sequence, problem, candidate, product);
    const FilterForm::Source source{problem.filter, problem.dtype, candidate.rotated,
                                    channels_of_x(problem, candidate)};
    plan.form = form_for(library, forms, source, product.filter);
    return plan;
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_unimplemented || error.status == dnnl_invalid_arguments) return {};
    throw;
  }
}

}  // namespace ringfort
