// Quantizers: every byte against a plain loop, so that all devices agree; means and variances
// against their bounds; what happens to zeros, tails, subnormal numbers and what is not finite.
#include "kernels/quantize.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "kernels/quantize_rules.h"
#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::DeviceVector;
using testing::random_vector;
namespace rules = quantizers;

constexpr RandomKey kKey{5, Purpose::kCompress, 17};

struct Named {
  const char* name;
  Quantizer quantizer;
};

std::vector<Named> all_quantizers() {
  using K = QuantizerKind;
  using S = QuantizerScale;
  return {{"float32", Quantizer::make(K::kFloat32)},
          {"float16", Quantizer::make(K::kFloat16)},
          {"bfloat16", Quantizer::make(K::kBFloat16)},
          {"8 bits of the largest", Quantizer::make(K::kDithering, 8)},
          {"4 bits of the norm", Quantizer::make(K::kDithering, 4, S::kNorm)},
          {"3 bits", Quantizer::make(K::kDithering, 3)},
          {"ternary", Quantizer::make(K::kDithering, 2, S::kClippedMax)},
          {"natural", Quantizer::make(K::kNatural)},
          {"natural dithering", Quantizer::make(K::kNaturalDithering, 4)},
          {"natural dithering of 8 bits", Quantizer::make(K::kNaturalDithering, 8)},
          {"sign of the mean", Quantizer::make(K::kSign, 1, S::kMean)},
          {"sign", Quantizer::make(K::kSign, 1, S::kOne)}};
}

// Numbers of many magnitudes, with zeros among them.
std::vector<float> gradient_like(int64_t count, uint64_t seed) {
  const auto base = random_vector(count, seed), power = random_vector(count, seed + 1, -12, 3);
  std::vector<float> values;
  for (size_t i = 0; i < base.size(); ++i)
    values.push_back(i % 11 == 5 ? 0.0f : static_cast<float>(base[i] * std::exp2(power[i])));
  return values;
}

// A flat buffer with the encodings of its chunks, which lie apart.
struct Encoded {
  Encoded(const Quantizer& q, const std::vector<int64_t>& counts, uint64_t seed) {
    int64_t first = 3;
    for (const int64_t count : counts) {
      chunks.push_back({first, count, wire_bytes + 100});
      wire_bytes += q.bytes(count);
      first += count + 5;
      longest = std::max(longest, count);
    }
    const std::vector<float> made = gradient_like(first, seed);
    values.assign(made.begin(), made.end());
    wire.assign(static_cast<size_t>(wire_bytes), std::byte{0xA5});
    residual.assign(values.size(), 7.0f);
  }
  EncodeJob job() {
    EncodeJob job;
    job.chunks = chunks.data();
    job.count = static_cast<int64_t>(chunks.size());
    job.longest = longest;
    job.origin = 100;
    job.values = values.data();
    job.wire = wire.data();
    job.residual = residual.data();
    job.key = kKey;
    job.first_stream = 40;
    return job;
  }
  DecodeJob decode_job(DeviceVector<float>& to) {
    return {chunks.data(), static_cast<int64_t>(chunks.size()), longest, 100, wire.data(),
            to.data()};
  }
  DeviceVector<Chunk> chunks;
  DeviceVector<float> values, residual;
  DeviceVector<std::byte> wire;
  int64_t wire_bytes = 0, longest = 0;
};

const std::vector<int64_t> kCounts = {1, 7, 8, 9, 31, 512, 513, 1030};

// --- the same by plain loops ---

float plain_scale(QuantizerScale kind, const float* x, int64_t n) {
  float max = 0;
  for (int64_t i = 0; i < n; ++i) max = std::max(max, std::abs(x[i]));
  double mean = 0, magnitude = 0, square = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double share = max > 0 ? static_cast<double>(x[i]) / static_cast<double>(max) : 0;
    mean += std::trunc(share * 0x1p30);
    magnitude += std::trunc(std::abs(share) * 0x1p30);
    square += std::trunc(share * share * 0x1p30);
  }
  const auto length = static_cast<double>(n), top = static_cast<double>(max);
  mean = mean / 0x1p30 / length;
  square = square / 0x1p30 / length;
  switch (kind) {
    case QuantizerScale::kOne:
      return 1;
    case QuantizerScale::kMax:
      return max;
    case QuantizerScale::kMean:
      return static_cast<float>(top * (magnitude / 0x1p30 / length));
    case QuantizerScale::kNorm:
      return static_cast<float>(top * std::sqrt(square * length));
    case QuantizerScale::kClippedMax:
      break;
  }
  return static_cast<float>(
      std::min(2.5 * top * std::sqrt(std::max(square - mean * mean, 0.0)), top));
}

template <class Visit>
void with_rule(const Quantizer& q, const Visit& visit) {
  switch (q.kind) {
    case QuantizerKind::kFloat32:
      return visit(rules::Float32{});
    case QuantizerKind::kFloat16:
      return visit(rules::Float16{});
    case QuantizerKind::kBFloat16:
      return visit(rules::BFloat16Rule{});
    case QuantizerKind::kDithering:
      return visit(rules::Dithering{q.bits, q.levels()});
    case QuantizerKind::kNatural:
      return visit(rules::Natural{});
    case QuantizerKind::kNaturalDithering:
      return visit(rules::NaturalDithering{q.bits, q.levels()});
    case QuantizerKind::kSign:
      return visit(rules::Sign{});
  }
}

struct Plain {
  std::vector<std::byte> wire;
  std::vector<float> values;  // decoded
};

void append_bits(std::vector<std::byte>& wire, const std::vector<uint32_t>& codes, int low,
                 int width) {
  std::vector<bool> bits;
  for (const uint32_t code : codes)
    for (int b = low; b < low + width; ++b) bits.push_back(((code >> b) & 1u) != 0);
  for (size_t b = 0; b < bits.size(); ++b) {
    if (b % 8 == 0) wire.push_back({});
    if (bits[b]) wire.back() |= std::byte{1} << (b % 8);
  }
}

Plain plain_chunk(const Quantizer& q, const float* x, int64_t n, uint64_t stream) {
  Plain plain;
  with_rule(q, [&]<class Rule>(const Rule& rule) {
    const float scale =
        Rule::kScaled
            ? plain_scale(q.kind == QuantizerKind::kFloat16 ? QuantizerScale::kMax : q.scale, x, n)
            : 1;
    if (Rule::kScaled) {
      plain.wire.resize(4);
      std::memcpy(plain.wire.data(), &scale, 4);
    }
    for (int64_t first = 0; first < n; first += 8) {
      std::vector<uint32_t> codes;
      for (int64_t i = first; i < std::min(first + 8, n); ++i) {
        codes.push_back(
            rule.code(x[i], scale, uniform01(kKey.word(stream, static_cast<uint32_t>(i)))));
        plain.values.push_back(rule.value(codes.back(), scale));
      }
      if (q.bits == 9) {
        append_bits(plain.wire, codes, 0, 8);
        append_bits(plain.wire, codes, 8, 1);
      } else {
        append_bits(plain.wire, codes, 0, q.bits);
      }
    }
  });
  return plain;
}

}  // namespace

TEST_CASE("quantize: every byte is that of a plain loop") {
  for (const auto& [name, q] : all_quantizers())
    for (const int threads : testing::thread_counts()) {
      CAPTURE(name, threads);
      Encoded all(q, kCounts, 1);
      Exec exec(kTestDevice, threads);
      encode(exec, q, all.job());
      testing::settle();
      for (size_t c = 0; c < all.chunks.size(); ++c) {
        const Chunk& chunk = all.chunks[c];
        const Plain plain = plain_chunk(q, all.values.data() + chunk.first, chunk.count, 40 + c);
        CAPTURE(chunk.count);
        CHECK(static_cast<int64_t>(plain.wire.size()) == q.bytes(chunk.count));
        CHECK(std::equal(plain.wire.begin(), plain.wire.end(),
                         all.wire.begin() + (chunk.wire - 100)));
      }
    }
}

TEST_CASE("quantize: decodes what was encoded and keeps what was left out") {
  for (const auto& [name, q] : all_quantizers()) {
    CAPTURE(name);
    Encoded all(q, kCounts, 3);
    Exec exec(kTestDevice, 2);
    encode(exec, q, all.job());
    DeviceVector<float> decoded(all.values.size(), 100.0f), added(all.values.size(), 2.0f);
    decode(exec, q, all.decode_job(decoded));
    DecodeJob adds = all.decode_job(added);
    adds.add = true;
    adds.factor = 0.5f;
    decode(exec, q, adds);
    testing::settle();
    std::vector<bool> inside(all.values.size());
    bool equal = true;
    for (size_t c = 0; c < all.chunks.size(); ++c) {
      const Chunk& chunk = all.chunks[c];
      const Plain plain = plain_chunk(q, all.values.data() + chunk.first, chunk.count, 40 + c);
      for (int64_t i = 0; i < chunk.count; ++i) {
        const auto at = static_cast<size_t>(chunk.first + i);
        inside[at] = true;
        equal = equal && decoded[at] == plain.values[static_cast<size_t>(i)] &&
                added[at] == 2 + 0.5f * decoded[at] &&
                all.residual[at] == all.values[at] - decoded[at];
      }
    }
    CHECK(equal);
    for (size_t i = 0; i < inside.size(); ++i)
      if (!inside[i]) CHECK((decoded[i] == 100 && added[i] == 2 && all.residual[i] == 7));
  }
}

TEST_CASE("quantize: an encoding that came is added before the next one is made in its place") {
  for (const auto& [name, q] : all_quantizers()) {
    CAPTURE(name);
    Encoded all(q, kCounts, 5);
    Exec exec(kTestDevice, 2);
    encode(exec, q, all.job());
    DeviceVector<float> sum = all.values;
    DecodeJob adds = all.decode_job(sum);
    adds.add = true;
    decode(exec, q, adds);
    EncodeJob hop = all.job();
    hop.received = all.wire.data();
    hop.first_stream = 90;
    encode(exec, q, hop);
    testing::settle();
    CHECK(all.values == sum);
    const Chunk& last = all.chunks.back();
    const Plain plain =
        plain_chunk(q, sum.data() + last.first, last.count, 90 + all.chunks.size() - 1);
    CHECK(std::equal(plain.wire.begin(), plain.wire.end(), all.wire.begin() + (last.wire - 100)));
  }
}

TEST_CASE("quantize: what is not finite poisons its chunk and no other") {
  for (const float bad : {NAN, INFINITY, -INFINITY})
    for (const auto& [name, q] : all_quantizers()) {
      CAPTURE(name, bad);
      Encoded all(q, {40, 40}, 7);
      all.values[static_cast<size_t>(all.chunks[0].first) + 20] = bad;
      Exec exec(kTestDevice, 1);
      encode(exec, q, all.job());
      DeviceVector<float> decoded(all.values.size(), 0.0f);
      decode(exec, q, all.decode_job(decoded));
      testing::settle();
      CHECK(!std::isfinite(decoded[static_cast<size_t>(all.chunks[0].first) + 20]));
      for (int64_t i = 0; i < 40; ++i)
        CHECK(std::isfinite(decoded[static_cast<size_t>(all.chunks[1].first + i)]));
    }
}

TEST_CASE("quantize: zeros stay zeros but for signs which are drawn by lot") {
  for (const auto& [name, q] : all_quantizers()) {
    CAPTURE(name);
    Encoded all(q, {2000}, 9);
    std::fill(all.values.begin(), all.values.end(), 0.0f);
    Exec exec(kTestDevice, 1);
    encode(exec, q, all.job());
    DeviceVector<float> decoded(all.values.size(), 3.0f);
    decode(exec, q, all.decode_job(decoded));
    testing::settle();
    int positive = 0;
    for (size_t i = 0; i < 2000; ++i) positive += decoded[i + 3] > 0;
    if (q.kind == QuantizerKind::kSign && q.scale == QuantizerScale::kOne)
      CHECK(std::abs(positive - 1000) < 150);  // 6.7 standard deviations
    else
      CHECK(positive == 0);
  }
}

// Of `trials` encodings E||C(x) - x||^2 / ||x||^2, and the squared error of their mean relative to
// what it is without bias: about 1 for a vector.
struct Moments {
  double variance = 0, bias = 0;
};
Moments moments(const Quantizer& q, const std::vector<float>& x, int trials) {
  Exec exec(kTestDevice, 1);
  const auto n = static_cast<int64_t>(x.size());
  DeviceVector<Chunk> chunks(1, Chunk{0, n, 0});
  DeviceVector<float> values(x.begin(), x.end()), decoded(x.size());
  DeviceVector<std::byte> wire(static_cast<size_t>(q.bytes(n)));
  std::vector<double> mean(x.size()), square(x.size());
  for (int t = 0; t < trials; ++t) {
    encode(exec, q,
           {chunks.data(), 1, n, 0, values.data(), nullptr, wire.data(), nullptr, kKey,
            static_cast<uint64_t>(t)});
    decode(exec, q, {chunks.data(), 1, n, 0, wire.data(), decoded.data()});
    testing::settle();
    for (size_t i = 0; i < x.size(); ++i) {
      const double error = static_cast<double>(decoded[i]) - static_cast<double>(x[i]);
      mean[i] += error / trials;
      square[i] += error * error / trials;
    }
  }
  Moments m;
  double energy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    energy += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    m.variance += square[i];
    m.bias += mean[i] * mean[i] * trials;
  }
  if (m.variance > 0) m.bias /= m.variance;
  m.variance /= energy;
  return m;
}

TEST_CASE(
    "quantize: dithering and natural compression have no bias and no more than their variance") {
  const std::vector<float> x = gradient_like(64, 11);
  const auto levels = [](int bits) { return (1 << (bits - 1)) - 1; };
  using K = QuantizerKind;
  const std::vector<std::pair<Quantizer, double>> cases = {
      {Quantizer::make(K::kDithering, 8), 63.0 / (4 * std::pow(levels(8), 2))},
      {Quantizer::make(K::kDithering, 2), 63.0 / 4},
      {Quantizer::make(K::kDithering, 4, QuantizerScale::kNorm), 64 / std::pow(levels(4), 2)},
      {Quantizer::make(K::kNatural), 1.0 / 8},
      {Quantizer::make(K::kNaturalDithering, 4), 1.0 / 8 + 63 * std::pow(4.0, 1 - levels(4)) / 4}};
  for (const auto& [q, bound] : cases) {
    const Moments m = moments(q, x, 200);
    CAPTURE(static_cast<int>(q.kind), q.bits);
    CHECK(m.variance > bound / 1000);
    CHECK(m.variance <= bound);
    CHECK(m.bias < 2);
  }
}

TEST_CASE("quantize: natural compression rounds by the share of the mantissa") {
  const auto mean_of = [](float x) {
    return moments(Quantizer::make(QuantizerKind::kNatural), std::vector<float>(400, x), 20);
  };
  // 2.5 becomes 2 three times out of four, else 4: variance (3/4 0.25 + 1/4 2.25) / 6.25
  CHECK(mean_of(2.5f).variance == Approx(0.75 / 6.25).epsilon(0.1));
  // The worst mantissa.
  CHECK(mean_of(4.0f / 3).variance == Approx(0.125).epsilon(0.05));
  CHECK(mean_of(-8).variance == 0);
  // Subnormal numbers become 0 or the smallest normal one, with the right mean.
  const Moments tiny = mean_of(0x1p-128f);
  CHECK(tiny.bias < 2);
  CHECK(tiny.variance == Approx(0.75 * 1 + 0.25 * 9).epsilon(0.1));
  // Nothing becomes infinite.
  const rules::Natural natural;
  for (const float u : {0.001f, 0.999f})
    CHECK(natural.value(natural.code(3.4e38f, 1, u), 1) == 0x1p127f);
}

TEST_CASE("quantize: float16 is rounded to nearest even relative to the largest exponent") {
  const rules::Float16 half;
  // With scale 1 the codes are IEEE halves.
  for (uint32_t code = 0; code < 0x4000; ++code) {  // up to 2
    const float value = half.value(code, 1);
    const double expected =
        code < 0x400 ? code * 0x1p-24
                     : std::ldexp(1024 + (code & 0x3FF), static_cast<int>(code >> 10) - 25);
    if (static_cast<double>(value) != expected || half.code(value, 1, 0) != code)
      FAIL("half " << code << " is " << value << ", comes back as " << half.code(value, 1, 0));
    const auto middle = static_cast<float>((expected + half.value(code + 1, 1)) / 2);
    if (half.code(middle, 1, 0) != code + (code & 1)) FAIL("half " << code << ": middle");
    if (half.code(std::nextafter(middle, 4.0f), 1, 0) != code + 1)
      FAIL("half " << code << ": above");
  }
  CHECK(half.value(half.code(-3e30f, 3e30f, 0), 3e30f) == Approx(-3e30).epsilon(5e-4));
}

TEST_CASE("quantize: bits that no code has are refused") {
  CHECK_THROWS_WITH(Quantizer::make(QuantizerKind::kDithering, 9),
                    "a quantizer's code has 2 to 8 bits, not 9");
  CHECK_THROWS_WITH(Quantizer::make(QuantizerKind::kNatural, 8),
                    "this quantizer's code has 9 bits, not 8");
}

}  // namespace ringfort
