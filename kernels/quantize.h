// Quantizers: a gradient in few bits per element, chunk by chunk, for the wire between ranks. The
// rules are functors written once; encode() and decode() own packing, scales and random numbers.
// The bytes are the same on every device and for any number of threads: scales are formed in
// integers, and this file is compiled without fused multiply-add.
//
// A chunk's bytes: its scale (float32), where the rule has one, then the codes. Codes of whole
// bytes lie one behind the other; others are packed by eight: the low eight bits of each (fewer
// where a code has fewer), then what is above.
//
// What is not finite poisons its chunk: whoever decodes it finds NaN, on every rank, so that all
// skip the step together.
#pragma once

#include "kernels/exec.h"
#include "kernels/philox.h"

namespace ringfort {

// Consecutive elements of one parameter that share a scale.
struct Chunk {
  int64_t first = 0, count = 0;  // elements, in the flat buffer
  int64_t wire = 0;              // where its bytes begin, among those of all chunks
};

enum class QuantizerKind {
  kFloat32,    // as it is
  kFloat16,    // of x / 2^e, e the largest exponent of the chunk: nothing overflows
  kBFloat16,   // rounded to nearest even
  kDithering,  // QSGD (Alistarh et al. 2017): levels 0 ... s of |x| / scale, s = 2^(bits-1) - 1
  kNatural,    // Horvath et al. 2022: sign and exponent, 9 bits
  kNaturalDithering,  // ditto: levels 0, 2^(1-s), ..., 1/2, 1 of |x| / scale
  kSign,              // the sign, of 0 by lot
};

// A chunk's scale, by which its codes are multiples.
enum class QuantizerScale {
  kMax,         // the largest |x|
  kNorm,        // the Euclidean norm
  kMean,        // mean |x| (EF-signSGD: Karimireddy et al. 2019)
  kClippedMax,  // the largest |x|, at most 2.5 standard deviations (TernGrad: Wen et al. 2017)
  kOne,         // 1
};

struct Quantizer {
  QuantizerKind kind = QuantizerKind::kFloat32;
  int bits = 32;  // of a code: of dithering and natural dithering 2 to 8, else the kind's own
  QuantizerScale scale = QuantizerScale::kMax;  // of dithering, natural dithering and sign

  // Errors: bits that the kind does not have.
  static Quantizer make(QuantizerKind kind, int bits = 0,
                        QuantizerScale scale = QuantizerScale::kMax);
  bool has_scale() const;
  int levels() const { return (1 << (bits - 1)) - 1; }
  int64_t bytes(int64_t count) const;  // of a chunk of so many elements
};

struct EncodeJob {
  const Chunk* chunks = nullptr;  // on the device
  int64_t count = 0;              // of chunks
  int64_t longest = 0;            // elements of the longest
  int64_t origin = 0;             // `wire` of the first chunk
  float* values = nullptr;        // the flat buffer
  // An encoding that is decoded and added to the values first; may be `wire` itself.
  const std::byte* received = nullptr;
  std::byte* wire = nullptr;
  // Where what the codes leave out is put, in a buffer laid out as the values.
  float* residual = nullptr;
  // Chunk c draws by (key, first_stream + c).
  RandomKey key = {};
  uint64_t first_stream = 0;
};
void encode(Exec& exec, const Quantizer& quantizer, const EncodeJob& job);

struct DecodeJob {
  const Chunk* chunks = nullptr;
  int64_t count = 0, longest = 0, origin = 0;
  const std::byte* wire = nullptr;
  float* values = nullptr;
  float factor = 1;  // of what is decoded
  bool add = false;  // to what is there; else it replaces it
};
void decode(Exec& exec, const Quantizer& quantizer, const DecodeJob& job);

}  // namespace ringfort
