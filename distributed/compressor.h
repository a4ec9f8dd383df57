// Compressor: what a recipe says of how gradients travel, and what follows from it: which
// algorithms may carry it, whether it has a bias, how large its error and its messages are.
#pragma once

#include <optional>
#include <string>

#include "distributed/codec.h"
#include "distributed/exchange.h"

namespace ringfort {

struct CompressorOptions {
  // none | fp16 | bf16 | qsgd | natural | natural-dithering | sign-majority | ef-sign | terngrad |
  // top-k | random-k | power-sgd; what keeps few elements may be followed by how those travel:
  // top-k+natural
  std::string name = "none";
  int bits = 0;              // of a code of qsgd (8) and natural-dithering (4); 0: these
  int64_t bucket = 0;        // elements that share a scale; 0: as the compressor is usually used
  std::string norm = "max";  // of qsgd and natural-dithering: max | l2
  double share = 0.01;       // of the elements that top-k and random-k keep
  int rank = 2;              // of power-sgd's factors
  std::optional<bool> error_feedback;  // empty: where the compressor needs it
};

// How encodings may be added up.
enum class CompressorClass {
  kLinear,    // sums of encodings are encodings of sums: any algorithm, no further error
  kReencode,  // decoded, added to and encoded anew at each hop, with an error each time
  kGather,    // not around a ring: too much is lost when sums are encoded again
  kLowRank,   // factors of matrices are summed, exactly (power_sgd.h)
};

class Compressor {
 public:
  // Errors: an unknown name, with those that are known; options that it does not have.
  explicit Compressor(const CompressorOptions& options);

  const std::string& name() const { return options_.name; }
  // With all that ranks must agree on: "qsgd of 8 bits, buckets of 512 by max, no error feedback".
  std::string describe() const;
  const CompressorOptions& options() const { return options_; }

  bool compresses() const { return options_.name != "none"; }
  CompressorClass kind() const { return kind_; }
  bool unbiased() const { return unbiased_; }
  // omega of an unbiased compressor: E||C(x) - x||^2 <= omega ||x||^2; of a biased one 1 - delta:
  // ||C(x) - x||^2 <= (1 - delta) ||x||^2.
  double error_bound() const { return error_bound_; }
  bool needs_error_feedback() const { return !unbiased_ && !votes(); }
  bool error_feedback() const { return error_feedback_; }
  // The sum that comes out is a vote, +-1, and is not divided by the number of ranks.
  bool votes() const { return options_.name == "sign-majority"; }
  // Bytes of one parameter of so many elements.
  int64_t bytes(int64_t elements) const;

  // REQUIRES: not of kind kLowRank.
  std::unique_ptr<Codec> make_codec(Device device, std::span<const Piece> pieces) const;

 private:
  void understand(const std::string& first, const std::string& second);
  void require_unused_options(const std::string& first) const;

  CompressorOptions options_;
  CompressorClass kind_ = CompressorClass::kReencode;
  Quantizer quantizer_;
  std::optional<SparseOptions> sparse_;
  bool unbiased_ = true, error_feedback_ = false;
  double error_bound_ = 0;
};

// The time that an exchange of `elements` takes by the model of latency and bandwidth: n ranks of
// which each sends and receives `bandwidth` bytes/s, with `latency` seconds per message.
//   ring, sra   2 (n - 1) latency + 2 (n - 1) / n bytes / bandwidth
//   gather      (n - 1) latency + (n - 1) bytes / bandwidth
struct Link {
  double latency = 50e-6;
  double bandwidth = 125e6;
};
double transfer_seconds(Algorithm algorithm, int ranks, int64_t bytes, const Link& link);

// The fastest algorithm that the compressor allows; among equals the one with the smaller error.
Algorithm choose_algorithm(const Compressor& compressor, int ranks, int64_t elements,
                           const Link& link);
// Errors: a compressor that does not go around a ring.
void require_allowed(const Compressor& compressor, Algorithm algorithm);

}  // namespace ringfort
