// OneDnn: engine and stream of oneDNN, the library behind convolutions and matrix products on a
// CPU, and a place where the files that use it keep their primitives. Sequence: a few primitives
// run one after another on memory that is named when they run, so that everything is created once
// per shape and nothing is allocated afterwards.
#pragma once

#include <array>
#include <dnnl.hpp>
#include <memory>
#include <string>
#include <typeindex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/activation.h"
#include "kernels/aligned.h"
#include "kernels/array_hash.h"
#include "kernels/exec.h"

namespace ringfort {

bool cpu_has_bfloat16();  // multiplies bfloat16 in hardware (AVX512_BF16 or AMX); elsewhere oneDNN
                          // emulates it
// Whether oneDNN computes in bfloat16 at all, has Winograd, and is fastest in blocks of 16
// channels. Without AVX-512 (or under ONEDNN_MAX_CPU_ISA=AVX2) it has only float32 products, and
// the fast ones of channels-last views.
bool onednn_has_avx512();
std::string cpu_name();        // "AMD EPYC 9R14"
std::string onednn_version();  // "oneDNN 2.6.3"

class OneDnn {
 public:
  OneDnn() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

  const dnnl::engine& engine() const { return engine_; }
  dnnl::stream& stream() { return stream_; }

  // The one object of type T that lives as long as this library handle: a file's cache of
  // primitives.
  template <class T>
  T& cache() {
    std::shared_ptr<void>& slot = caches_[typeid(T)];
    if (!slot) slot = std::make_shared<T>();
    return *static_cast<T*>(slot.get());
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::unordered_map<std::type_index, std::shared_ptr<void>> caches_;
};

// Float32 copies of bfloat16 operands, for a product of which oneDNN has none here.
class FloatCopies {
 public:
  static bool needed(Dtype operands) {
    return operands == Dtype::kBFloat16 && !onednn_has_avx512();
  }
  // A float32 view like `view`, its values undefined. number: of the operands of one product, below
  // 3; of each there is one copy at a time.
  View like(const View& view, size_t number);
  // The same with the values of `view`.
  View of(Exec& exec, const View& view, size_t number);

 private:
  struct Room {
    AlignedMemory memory;
    int64_t bytes = 0;
  };
  std::array<Room, 3> rooms_;
};

dnnl::memory::data_type onednn_type(Dtype dtype);  // float32 and bfloat16 only

// Runs `call`; what oneDNN refuses becomes an Error that names `what`.
template <class Call>
auto with_onednn(const std::string& what, Call call) {
  try {
    return call();
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_out_of_memory)
      throw OutOfMemory(fmt::format("{}: out of memory in oneDNN", what));
    fail("{}: oneDNN says '{}'", what, error.message);
  }
}

// Where a memory of a sequence lies when it runs.
enum class Base : uint8_t { kFirst, kSecond, kOutput, kBias, kScratch };
using Bases = std::array<void*, 5>;  // indexed by Base

class Sequence {
 public:
  explicit Sequence(const dnnl::engine& engine) : engine_(engine) {}

  dnnl::memory at(Base base, const dnnl::memory::desc& desc);  // a buffer of the caller
  dnnl::memory scratch(const dnnl::memory::desc& desc);        // room of its own in the scratch

  // The bytes of a memory from scratch() seen through another descriptor, no larger.
  dnnl::memory alias(const dnnl::memory& scratch_memory, const dnnl::memory::desc& desc);

  // Adds a primitive created with attributes from sequence_attributes().
  void add(const dnnl::primitive& primitive, const dnnl::primitive_desc_base& description,
           std::unordered_map<int, dnnl::memory> arguments);
  // Adds a copy into another format: to = from, or to += from.
  void add_reorder(const dnnl::memory& from, const dnnl::memory& to, bool accumulate = false);

  int64_t scratch_bytes() const { return scratch_bytes_; }
  bool empty() const { return steps_.empty(); }

  // REQUIRES: every base in use is set; kScratch is 64-byte aligned and scratch_bytes() long.
  void run(dnnl::stream& stream, const Bases& bases);

 private:
  struct Binding {
    dnnl::memory memory;
    Base base;
    int64_t offset;
  };
  struct Step {
    dnnl::primitive primitive;
    std::unordered_map<int, dnnl::memory> arguments;
  };

  dnnl::engine engine_;
  std::vector<Binding> bindings_;
  std::vector<Step> steps_;
  int64_t scratch_bytes_ = 0;
};

// Attributes that take the scratchpad from the caller.
dnnl::primitive_attr sequence_attributes();
// The same, and on the way out: + what the output holds, then ReLU.
dnnl::primitive_attr epilogue_attributes(bool accumulate, bool relu);

constexpr int64_t aligned64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// product(a, b, c) of two bfloat16 operands and a result, on float32 copies of them. accumulate:
// the product adds to c. REQUIRES: FloatCopies::needed().
template <class Product>
void in_float32(Exec& exec, const View& a, const View& b, const View& c, bool accumulate,
                const Product& product) {
  FloatCopies& copies = exec.onednn().cache<FloatCopies>();
  const View wide_a = copies.of(exec, a, 0), wide_b = copies.of(exec, b, 1);
  if (c.dtype == Dtype::kFloat32) return product(wide_a, wide_b, c);
  const View wide_c = accumulate ? copies.of(exec, c, 2) : copies.like(c, 2);
  product(wide_a, wide_b, wide_c);
  convert(exec, c, wide_c);
}

}  // namespace ringfort
