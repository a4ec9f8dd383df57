#include "kernels/quantize.h"

#include "kernels/quantize_rules.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

using namespace quantizers;

constexpr int kGroup = 8;  // codes that are packed together

HD inline int64_t packed_bytes(int64_t codes, int bits) { return (codes * bits + 7) / 8; }

// --- packing ---

// Codes of up to eight elements, `bits` each, at `to`.
HD inline void pack(std::byte* to, const uint32_t* codes, int count, int bits, int shift) {
  uint64_t word = 0;
  for (int j = 0; j < count; ++j)
    word |= static_cast<uint64_t>((codes[j] >> shift) & ((1u << bits) - 1)) << (j * bits);
  const int64_t bytes = packed_bytes(count, bits);
  for (int64_t b = 0; b < bytes; ++b) to[b] = static_cast<std::byte>(word >> (8 * b));
}

HD inline void unpack(const std::byte* from, uint32_t* codes, int count, int bits, int shift) {
  uint64_t word = 0;
  const int64_t bytes = packed_bytes(count, bits);
  for (int64_t b = 0; b < bytes; ++b) word |= static_cast<uint64_t>(from[b]) << (8 * b);
  for (int j = 0; j < count; ++j)
    codes[j] |= (static_cast<uint32_t>(word >> (j * bits)) & ((1u << bits) - 1)) << shift;
}

template <class T>
HD void store_whole(std::byte* to, const uint32_t* codes, int count) {
  for (int j = 0; j < count; ++j) {
    const T code = static_cast<T>(codes[j]);
    memcpy(to + j * static_cast<int>(sizeof(T)), &code, sizeof(T));
  }
}
template <class T>
HD void load_whole(const std::byte* from, uint32_t* codes, int count) {
  for (int j = 0; j < count; ++j) {
    T code;
    memcpy(&code, from + j * static_cast<int>(sizeof(T)), sizeof(T));
    codes[j] = code;
  }
}

// The codes of a group. Whole bytes are stored as they are; other codes in two planes, the low
// eight bits of each and what is above.
HD inline void store_codes(std::byte* to, const uint32_t* codes, int count, int bits) {
  if (bits == 8) return store_whole<uint8_t>(to, codes, count);
  if (bits == 16) return store_whole<uint16_t>(to, codes, count);
  if (bits == 32) return store_whole<uint32_t>(to, codes, count);
  if (bits < 8) return pack(to, codes, count, bits, 0);
  store_whole<uint8_t>(to, codes, count);
  pack(to + count, codes, count, bits - 8, 8);
}
HD inline void load_codes(const std::byte* from, uint32_t* codes, int count, int bits) {
  if (bits == 8) return load_whole<uint8_t>(from, codes, count);
  if (bits == 16) return load_whole<uint16_t>(from, codes, count);
  if (bits == 32) return load_whole<uint32_t>(from, codes, count);
  if (bits < 8) return unpack(from, codes, count, bits, 0);
  load_whole<uint8_t>(from, codes, count);
  unpack(from + count, codes, count, bits - 8, 8);
}

HD inline void store_float(std::byte* to, float value) { memcpy(to, &value, sizeof value); }
HD inline float load_float(const std::byte* from) {
  float value;
  memcpy(&value, from, sizeof value);
  return value;
}

// --- a chunk's scale ---

// Sums over the chunk are of integers, 2^30 to the largest magnitude, and so the same in any order.
template <class Row, class Term>
HD double exact_mean(const Row& row, int64_t n, const Term& term) {
  const int64_t sum = row.template sum<int64_t>(
      n, [&](int64_t i) { return static_cast<int64_t>(term(i) * 1073741824.0); });
  return static_cast<double>(sum) / 1073741824.0 / static_cast<double>(n);
}

template <class Row>
HD float scale_of(const Row& row, const float* x, int64_t n, QuantizerScale kind) {
  const auto magnitude = [&](int64_t i) {
    return static_cast<int32_t>(bits_of(x[i]) & kMagnitude);
  };
  // As integers, magnitudes have the order of their values, and NaN is the largest.
  const auto largest = static_cast<uint32_t>(row.template max<int32_t>(n, magnitude));
  if (largest >= kInfinity) return float_of(kNaN);
  const float max = float_of(largest);
  if (kind == QuantizerScale::kOne) return 1;
  if (kind == QuantizerScale::kMax || largest == 0) return max;
  const auto share = [&](int64_t i) {
    return static_cast<double>(x[i]) / static_cast<double>(max);
  };
  const double top = static_cast<double>(max);
  if (kind == QuantizerScale::kMean)
    return static_cast<float>(top * exact_mean(row, n, [&](int64_t i) {
                                const double s = share(i);
                                return s < 0 ? -s : s;
                              }));
  const double square = exact_mean(row, n, [&](int64_t i) { return share(i) * share(i); });
  if (kind == QuantizerScale::kNorm)
    return static_cast<float>(top * sqrt(square * static_cast<double>(n)));
  const double mean = exact_mean(row, n, share);
  const double variance = square - mean * mean;
  const double limit = 2.5 * top * sqrt(variance > 0 ? variance : 0);
  return static_cast<float>(limit < top ? limit : top);
}

// --- kernels: a row is a chunk ---

template <class Rule>
HD int scale_bytes(const Rule&) {
  return Rule::kScaled ? static_cast<int>(sizeof(float)) : 0;
}

// values <- (values +) factor * what the chunk's bytes say
template <class Rule, class Row>
HD void decode_chunk(const Row& row, const Rule& rule, const std::byte* wire, float* x, int64_t n,
                     float factor, bool add) {
  const float scale = Rule::kScaled ? load_float(wire) : 1;
  const std::byte* packed = wire + scale_bytes(rule);
  const auto decode_group = [&](int64_t first, int count) {
    uint32_t codes[kGroup] = {};
    load_codes(packed + first / kGroup * rule.bits(), codes, count, rule.bits());
#pragma omp simd
    for (int j = 0; j < count; ++j) {
      const float value = factor * rule.value(codes[j], scale);
      x[first + j] = add ? x[first + j] + value : value;
    }
  };
  row.each_group(kGroup, n, [&](int64_t first, int count) {
    if (count == kGroup)
      decode_group(first, kGroup);  // its loops are unrolled
    else
      decode_group(first, count);
  });
}

template <class Rule>
struct Decode {
  Rule rule;
  DecodeJob job;

  template <class Row>
  HD void operator()(const Row& row, int64_t index) const {
    const Chunk chunk = job.chunks[index];
    decode_chunk(row, rule, job.wire + (chunk.wire - job.origin), job.values + chunk.first,
                 chunk.count, job.factor, job.add);
  }
};

template <class Rule>
struct Encode {
  Rule rule;
  QuantizerScale scale_kind;
  EncodeJob job;

  template <class Row>
  HD void operator()(const Row& row, int64_t index) const {
    const Chunk chunk = job.chunks[index];
    float* const x = job.values + chunk.first;
    const int64_t at = chunk.wire - job.origin;
    if (job.received != nullptr)
      decode_chunk(row, rule, job.received + at, x, chunk.count, 1.0f, true);
    const float scale = Rule::kScaled ? scale_of(row, x, chunk.count, scale_kind) : 1;
    if (Rule::kScaled && row.first()) store_float(job.wire + at, scale);
    std::byte* const packed = job.wire + at + scale_bytes(rule);
    float* const rest = job.residual != nullptr ? job.residual + chunk.first : nullptr;
    const auto encode_some = [&](int64_t first, int count, const float* u) {
      uint32_t codes[kGroup] = {};
#pragma omp simd
      for (int j = 0; j < count; ++j) codes[j] = rule.code(x[first + j], scale, u[j]);
      store_codes(packed + first / kGroup * rule.bits(), codes, count, rule.bits());
      if (rest == nullptr) return;
#pragma omp simd
      for (int j = 0; j < count; ++j) rest[first + j] = x[first + j] - rule.value(codes[j], scale);
    };
    const auto encode_group = [&](int64_t first, int count, const float* u) {
      if (count == kGroup)
        encode_some(first, kGroup, u);  // its loops are unrolled
      else
        encode_some(first, count, u);
    };
    if constexpr (Rule::kRandom) {
      row.each_group_uniform(kGroup, job.key, job.first_stream + static_cast<uint64_t>(index),
                             chunk.count, encode_group);
    } else {
      constexpr float kNone[kGroup] = {};
      row.each_group(kGroup, chunk.count,
                     [&](int64_t first, int count) { encode_group(first, count, kNone); });
    }
  }
};

template <class Visit>
void with_rule(const Quantizer& q, const Visit& visit) {
  switch (q.kind) {
    case QuantizerKind::kFloat32:
      return visit(Float32{});
    case QuantizerKind::kFloat16:
      return visit(Float16{});
    case QuantizerKind::kBFloat16:
      return visit(BFloat16Rule{});
    case QuantizerKind::kDithering:
      return visit(Dithering{q.bits, q.levels()});
    case QuantizerKind::kNatural:
      return visit(Natural{});
    case QuantizerKind::kNaturalDithering:
      return visit(NaturalDithering{q.bits, q.levels()});
    case QuantizerKind::kSign:
      return visit(Sign{});
  }
  fail("quantizer {} is not known", static_cast<int>(q.kind));
}

}  // namespace

Quantizer Quantizer::make(QuantizerKind kind, int bits, QuantizerScale scale) {
  Quantizer q{kind, bits, scale};
  const bool free = kind == QuantizerKind::kDithering || kind == QuantizerKind::kNaturalDithering;
  if (free) {
    require(bits >= 2 && bits <= 8, "a quantizer's code has 2 to 8 bits, not {}", bits);
    return q;
  }
  with_rule({kind, 8, scale}, [&](const auto& rule) { q.bits = rule.bits(); });
  require(bits == 0 || bits == q.bits, "this quantizer's code has {} bits, not {}", q.bits, bits);
  return q;
}

bool Quantizer::has_scale() const {
  bool has = false;
  with_rule(*this, [&]<class Rule>(const Rule&) { has = Rule::kScaled; });
  return has;
}

int64_t Quantizer::bytes(int64_t count) const {
  const int64_t rest = count % kGroup;
  const int64_t head = has_scale() ? static_cast<int64_t>(sizeof(float)) : 0;
  const int64_t tail = bits % 8 == 0 || bits < 8
                           ? packed_bytes(rest, bits)
                           : packed_bytes(rest, 8) + packed_bytes(rest, bits - 8);
  return head + count / kGroup * bits + tail;
}

void encode(Exec& exec, const Quantizer& quantizer, const EncodeJob& job) {
  with_rule(quantizer, [&]<class Rule>(const Rule& rule) {
    for_each_row(exec, job.count, job.longest, Encode<Rule>{rule, quantizer.scale, job});
  });
}

void decode(Exec& exec, const Quantizer& quantizer, const DecodeJob& job) {
  with_rule(quantizer, [&]<class Rule>(const Rule& rule) {
    for_each_row(exec, job.count, job.longest, Decode<Rule>{rule, job});
  });
}

}  // namespace ringfort
