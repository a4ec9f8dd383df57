#include "kernels/onednn.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>

namespace ringfort {
namespace {

struct CpuidRegisters {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero where the CPU does not know the leaf.
CpuidRegisters cpuid(unsigned leaf, unsigned subleaf = 0) {
  CpuidRegisters r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

}  // namespace

bool cpu_has_bfloat16() {
  const bool avx512_bf16 = (cpuid(7, 1).eax >> 5 & 1) != 0;
  const bool amx_bf16 = (cpuid(7, 0).edx >> 22 & 1) != 0;
  return avx512_bf16 || amx_bf16;
}

bool onednn_has_avx512() {
  constexpr auto kCore = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kCore) == kCore;
}

std::string cpu_name() {
  std::string name;
  for (unsigned leaf = 0x80000002; leaf <= 0x80000004; ++leaf) {
    const CpuidRegisters r = cpuid(leaf);
    char part[16];
    std::memcpy(part, &r, sizeof part);
    name.append(part, sizeof part);
  }
  name.resize(std::strlen(name.c_str()));
  const size_t first = name.find_first_not_of(' ');
  if (first == std::string::npos) return "unknown CPU";
  return name.substr(first, name.find_last_not_of(' ') - first + 1);
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
}

View FloatCopies::like(const View& view, size_t number) {
  View wide = view;
  wide.dtype = Dtype::kFloat32;
  Room& room = rooms_.at(number);
  if (room.bytes < wide.bytes()) {
    room.memory = allocate_aligned(wide.bytes(), "float32 copies of bfloat16 operands");
    room.bytes = wide.bytes();
  }
  wide.data = room.memory.get();
  return wide;
}

View FloatCopies::of(Exec& exec, const View& view, size_t number) {
  const View wide = like(view, number);
  convert(exec, wide, view);
  return wide;
}

dnnl::memory::data_type onednn_type(Dtype dtype) {
  if (dtype == Dtype::kFloat32) return dnnl::memory::data_type::f32;
  if (dtype == Dtype::kBFloat16) return dnnl::memory::data_type::bf16;
  fail("oneDNN is used for float32 and bfloat16, not for {}", to_string(dtype));
}

dnnl::memory Sequence::at(Base base, const dnnl::memory::desc& desc) {
  dnnl::memory memory(desc, engine_, DNNL_MEMORY_NONE);
  bindings_.push_back({memory, base, 0});
  return memory;
}

dnnl::memory Sequence::scratch(const dnnl::memory::desc& desc) {
  dnnl::memory memory(desc, engine_, DNNL_MEMORY_NONE);
  bindings_.push_back({memory, Base::kScratch, scratch_bytes_});
  scratch_bytes_ += aligned64(static_cast<int64_t>(desc.get_size()));
  return memory;
}

dnnl::memory Sequence::alias(const dnnl::memory& scratch_memory, const dnnl::memory::desc& desc) {
  const auto of_original = [&](const Binding& binding) {
    return binding.memory.get() == scratch_memory.get();
  };
  const auto original = std::find_if(bindings_.begin(), bindings_.end(), of_original);
  const Binding binding{dnnl::memory(desc, engine_, DNNL_MEMORY_NONE), original->base,
                        original->offset};
  bindings_.push_back(binding);
  return binding.memory;
}

void Sequence::add(const dnnl::primitive& primitive, const dnnl::primitive_desc_base& description,
                   std::unordered_map<int, dnnl::memory> arguments) {
  const dnnl::memory::desc scratchpad = description.scratchpad_desc();
  if (scratchpad.get_size() > 0) arguments[DNNL_ARG_SCRATCHPAD] = scratch(scratchpad);
  steps_.push_back({primitive, std::move(arguments)});
}

void Sequence::add_reorder(const dnnl::memory& from, const dnnl::memory& to, bool accumulate) {
  const dnnl::reorder::primitive_desc description(engine_, from.get_desc(), engine_, to.get_desc(),
                                                  epilogue_attributes(accumulate, false));
  add(dnnl::reorder(description), description, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
}

void Sequence::run(dnnl::stream& stream, const Bases& bases) {
  for (const Binding& binding : bindings_) {
    auto* base = static_cast<std::byte*>(bases[static_cast<size_t>(binding.base)]);
    binding.memory.set_data_handle(base + binding.offset, stream);
  }
  for (const Step& step : steps_) step.primitive.execute(stream, step.arguments);
  stream.wait();
}

dnnl::primitive_attr sequence_attributes() { return epilogue_attributes(false, false); }

dnnl::primitive_attr epilogue_attributes(bool accumulate, bool relu) {
  dnnl::post_ops operations;
  if (accumulate) operations.append_sum(1.0f);
  if (relu) operations.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(operations);
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

}  // namespace ringfort
