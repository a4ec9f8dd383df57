// Selection of few elements of each chunk, and their way back: what sparse gradients are made of.
// Exact, by bisection over the bits of the keys, and the same on every device: where keys are equal
// the lower index counts.
#pragma once

#include "kernels/exec.h"
#include "kernels/philox.h"

namespace ringfort {

// A chunk and the place of what is kept of it.
struct Selection {
  static constexpr int64_t kLongest = 65536;  // an index takes 16 bits on the wire
  int64_t first = 0, count = 0;               // elements, in the flat buffer
  int64_t kept_first = 0, kept = 0;           // in the compact buffer; 0 <= kept <= count
  int64_t before = 0;                         // elements of the chunks before it
  int64_t wire = 0;  // where its indices lie among all bytes, where they travel
};

enum class SelectBy {
  kMagnitude,  // the largest; what is not a number counts as the largest of all
  kLot,        // by numbers of (key, stream + chunk): the same wherever these are the same
};

struct SelectJob {
  const Selection* chunks = nullptr;  // on the device
  int64_t count = 0, longest = 0;
  const float* values = nullptr;  // the flat buffer
  SelectBy by = SelectBy::kMagnitude;
  RandomKey key = {};
  uint64_t stream = 0;
  float* keys = nullptr;       // kLot: room for a number per element of all chunks
  int32_t* indices = nullptr;  // within the chunk, by place in the compact buffer
  float* compact = nullptr;    // the values there
};
void select(Exec& exec, const SelectJob& job);

// indices <-> 16 bits each on the wire, of which `origin` is the first byte
void store_indices(Exec& exec, const Selection* chunks, int64_t count, int64_t longest,
                   const int32_t* indices, std::byte* wire, int64_t origin);
void load_indices(Exec& exec, const Selection* chunks, int64_t count, int64_t longest,
                  int32_t* indices, const std::byte* wire, int64_t origin);

// values of the chunks (+)= the compact ones at their indices. add: to what is there; otherwise the
// others become 0.
void scatter(Exec& exec, const Selection* chunks, int64_t count, int64_t longest,
             const int32_t* indices, const float* compact, float* values, bool add);

// residual <- values, but at the indices what is left of those.
void keep_residual(Exec& exec, const Selection* chunks, int64_t count, int64_t longest,
                   const int32_t* indices, const float* left, const float* values, float* residual);

// values of the chunks *= count / kept: what is kept by lot then has the mean of all.
void scale_by_share(Exec& exec, const Selection* chunks, int64_t count, int64_t longest,
                    float* values);

}  // namespace ringfort
