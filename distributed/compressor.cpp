#include "distributed/compressor.h"

#include <algorithm>
#include <cmath>

namespace ringfort {
namespace {

constexpr const char* kNames =
    "none, fp16, bf16, qsgd, natural, natural-dithering, sign-majority, ef-sign, terngrad, top-k, "
    "random-k, power-sgd; top-k and random-k may be followed by how their values travel, as in "
    "top-k+natural";

QuantizerScale norm_of(const std::string& norm) {
  if (norm == "max") return QuantizerScale::kMax;
  if (norm == "l2") return QuantizerScale::kNorm;
  fail("--compressor-norm: there is no norm '{}'; known are max, l2", norm);
}

// The variance bounds, each derived in docs/distributed.md.
double dithering_variance(const Quantizer& q, double bucket) {
  const double levels = q.levels();
  if (q.scale == QuantizerScale::kNorm)
    return std::min(bucket / (levels * levels), std::sqrt(bucket) / levels);
  return (bucket - 1) / (4 * levels * levels);  // the largest element is a level itself
}

double natural_dithering_variance(const Quantizer& q, double bucket) {
  const double lowest = std::exp2(1 - q.levels());
  if (q.scale == QuantizerScale::kNorm)
    return 1.0 / 8 + std::sqrt(bucket) * lowest * std::min(1.0, std::sqrt(bucket) * lowest);
  return 1.0 / 8 + (bucket - 1) * lowest * lowest / 4;
}

}  // namespace

Compressor::Compressor(const CompressorOptions& options) : options_(options) {
  const size_t plus = options.name.find('+');
  const std::string first = options.name.substr(0, plus);
  const std::string second = plus == std::string::npos ? "" : options.name.substr(plus + 1);
  require(options.bucket >= 0, "--compressor-bucket is {}; it must not be negative",
          options.bucket);
  require_unused_options(first);
  understand(first, second);
  error_feedback_ = options.error_feedback.value_or(needs_error_feedback());
  require(!votes() || !error_feedback_,
          "--error-feedback: a majority vote has no magnitude that an error could be measured "
          "against; take ef-sign");
  // Without feedback, what is kept by lot is scaled up to have no bias; with it, it must not be.
  if (first == "random-k") sparse_->scale_up = !error_feedback_;
}

void Compressor::require_unused_options(const std::string& first) const {
  const bool has_bits = options_.name.find("qsgd") != std::string::npos ||
                        options_.name.find("natural-dithering") != std::string::npos;
  require(options_.bits == 0 || has_bits,
          "--compressor-bits: {} has codes of its own; only qsgd and natural-dithering take bits",
          options_.name);
  require(options_.norm == "max" || has_bits,
          "--compressor-norm: only qsgd and natural-dithering have one, not {}", options_.name);
  require(options_.bucket == 0 || (first != "none" && first != "power-sgd"),
          "--compressor-bucket: {} has no buckets", first);
}

void Compressor::understand(const std::string& first, const std::string& second) {
  using K = QuantizerKind;
  const auto bucket_or = [&](int64_t usual) {
    if (options_.bucket == 0) options_.bucket = usual;
    return static_cast<double>(options_.bucket);
  };
  if (first == "top-k" || first == "random-k") {
    CompressorOptions values = options_;
    values.name = second.empty() ? "none" : second;
    values.bucket = 0;
    values.error_feedback = false;
    Compressor of_values(values);
    require(
        !of_values.sparse_ && of_values.kind_ != CompressorClass::kLowRank && !of_values.votes(),
        "--compressor: {} cannot follow {}; what is kept travels as none, fp16, bf16, qsgd, "
        "natural, natural-dithering, terngrad or ef-sign",
        second, first);
    bucket_or(16384);
    require(options_.bucket <= Selection::kLongest,
            "--compressor-bucket: {} keeps elements of buckets of at most {}, not {}", first,
            Selection::kLongest, options_.bucket);
    require(options_.share > 0 && options_.share <= 1,
            "--compressor-share is {}; it must be above 0 and at most 1", options_.share);
    sparse_ = SparseOptions{first == "top-k" ? SelectBy::kMagnitude : SelectBy::kLot,
                            options_.share, false, of_values.quantizer_};
    quantizer_ = of_values.quantizer_;
    const double share = options_.share;
    if (first == "top-k") {
      kind_ = CompressorClass::kGather;
      unbiased_ = false;
      error_bound_ = 1 - share + share * of_values.error_bound_;
    } else {
      kind_ = second.empty() ? CompressorClass::kLinear : CompressorClass::kReencode;
      // Feedback is the rule here too: without it the variance is d / k - 1.
      unbiased_ = options_.error_feedback == std::optional(false) && of_values.unbiased_;
      const double omega = 1 / share - 1;
      error_bound_ = unbiased_ ? omega * (1 + of_values.error_bound_) + of_values.error_bound_
                               : 1 - share + share * of_values.error_bound_;
    }
    return;
  }
  require(second.empty(),
          "--compressor: nothing can follow {}; only what top-k and random-k keep "
          "travels in a second encoding",
          first);
  if (first == "none") {
    kind_ = CompressorClass::kLinear;
    quantizer_ = Quantizer::make(K::kFloat32);
    options_.bucket = 4096;
  } else if (first == "fp16" || first == "bf16") {
    quantizer_ = Quantizer::make(first == "fp16" ? K::kFloat16 : K::kBFloat16);
    bucket_or(4096);
    error_bound_ = std::exp2(first == "fp16" ? -22 : -16);
  } else if (first == "qsgd") {
    quantizer_ = Quantizer::make(K::kDithering, options_.bits == 0 ? 8 : options_.bits,
                                 norm_of(options_.norm));
    error_bound_ = dithering_variance(quantizer_, bucket_or(512));
  } else if (first == "terngrad") {
    quantizer_ = Quantizer::make(K::kDithering, 2, QuantizerScale::kClippedMax);
    // What is clipped is lost: a bias, as in its paper, which lives with it.
    error_bound_ = dithering_variance(quantizer_, bucket_or(4096));
  } else if (first == "natural") {
    quantizer_ = Quantizer::make(K::kNatural);
    bucket_or(4096);
    error_bound_ = 1.0 / 8;
  } else if (first == "natural-dithering") {
    quantizer_ = Quantizer::make(K::kNaturalDithering, options_.bits == 0 ? 4 : options_.bits,
                                 norm_of(options_.norm));
    error_bound_ = natural_dithering_variance(quantizer_, bucket_or(512));
  } else if (first == "sign-majority" || first == "ef-sign") {
    const bool votes = first == "sign-majority";
    quantizer_ = Quantizer::make(K::kSign, 1, votes ? QuantizerScale::kOne : QuantizerScale::kMean);
    if (votes) kind_ = CompressorClass::kGather;
    // delta is ||x||_1^2 / (d ||x||_2^2), at least 1 / d.
    error_bound_ = 1 - 1 / bucket_or(votes ? 4096 : 2048);
    unbiased_ = false;
  } else if (first == "power-sgd") {
    require(options_.rank >= 1, "--compressor-rank is {}; it must be at least 1", options_.rank);
    kind_ = CompressorClass::kLowRank;
    unbiased_ = false;
    error_bound_ = 1;
  } else {
    fail("--compressor: there is no compressor '{}'; known are {}", first, kNames);
  }
}

std::string Compressor::describe() const {
  std::string text = options_.name;
  if (quantizer_.kind == QuantizerKind::kDithering ||
      quantizer_.kind == QuantizerKind::kNaturalDithering)
    text += fmt::format(" of {} bits by {}", quantizer_.bits, options_.norm);
  if (sparse_) text += fmt::format(", {:g} % of the elements", 100 * options_.share);
  if (kind_ == CompressorClass::kLowRank) text += fmt::format(", rank {}", options_.rank);
  if (compresses() && options_.bucket > 0) text += fmt::format(", buckets of {}", options_.bucket);
  if (error_feedback_) text += ", error feedback";
  return text;
}

int64_t Compressor::bytes(int64_t elements) const {
  require(kind_ != CompressorClass::kLowRank, "{}: bytes depend on a parameter's shape",
          options_.name);
  int64_t bytes = 0;
  for (int64_t done = 0; done < elements; done += options_.bucket) {
    const int64_t count = std::min(options_.bucket, elements - done);
    if (!sparse_) {
      bytes += quantizer_.bytes(count);
      continue;
    }
    const int64_t kept = kept_of(*sparse_, count);
    bytes += (sparse_->by == SelectBy::kMagnitude ? 2 * kept : 0) + quantizer_.bytes(kept);
  }
  return bytes;
}

std::unique_ptr<Codec> Compressor::make_codec(Device device, std::span<const Piece> pieces) const {
  require(kind_ != CompressorClass::kLowRank, "{} has no codec: its factors travel as they are",
          options_.name);
  if (sparse_) return make_sparse_codec(device, pieces, *sparse_, options_.bucket);
  return make_quantizer_codec(device, pieces, quantizer_, options_.bucket);
}

double transfer_seconds(Algorithm algorithm, int ranks, int64_t bytes, const Link& link) {
  const double n = ranks, transfer = static_cast<double>(bytes) / link.bandwidth;
  if (algorithm == Algorithm::kGather) return (n - 1) * (link.latency + transfer);
  return 2 * (n - 1) * (link.latency + transfer / n);
}

void require_allowed(const Compressor& compressor, Algorithm algorithm) {
  require(algorithm != Algorithm::kRing || compressor.kind() != CompressorClass::kGather,
          "--exchange ring: sums of {} cannot be encoded again at every hop; take sra or gather",
          compressor.name());
}

Algorithm choose_algorithm(const Compressor& compressor, int ranks, int64_t elements,
                           const Link& link) {
  // A ring's error grows with the ranks where each hop encodes anew, unless 8 bits and more leave
  // next to none.
  const bool ring = compressor.kind() == CompressorClass::kLinear ||
                    (compressor.kind() == CompressorClass::kReencode &&
                     compressor.error_bound() * (ranks + 1) / 2 < 0.01);
  const int64_t bytes =
      compressor.kind() == CompressorClass::kLowRank ? 0 : compressor.bytes(elements);
  const Algorithm scattered = ring ? Algorithm::kRing : Algorithm::kSra;
  const bool gather = transfer_seconds(Algorithm::kGather, ranks, bytes, link) <
                      transfer_seconds(scattered, ranks, bytes, link);
  return gather ? Algorithm::kGather : scattered;
}

}  // namespace ringfort
