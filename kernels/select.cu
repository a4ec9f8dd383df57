#include "kernels/select.h"

#include "kernels/quantize_rules.h"
#include "kernels/rows.h"

namespace ringfort {
namespace {

using quantizers::bits_of;
using quantizers::kMagnitude;

// The `wanted` largest keys of a row, as (index, place): those above the wanted-th largest first,
// then as many equal to it as there is room for.
template <class Row, class Key, class Emit>
HD void largest(const Row& row, int64_t n, int64_t wanted, const Key& key, const Emit& emit) {
  if (wanted == 0) return;
  const auto at_least = [&](uint32_t threshold) {
    return row.template sum<int64_t>(
        n, [&](int64_t i) { return int64_t{key(i) >= threshold ? 1 : 0}; });
  };
  uint32_t threshold = 0;
  for (uint32_t bit = 0x40000000u; bit != 0; bit >>= 1)
    if (at_least(threshold | bit) >= wanted) threshold |= bit;
  const int64_t above = at_least(threshold + 1);
  row.each_selected(
      n, [&](int64_t i) { return key(i) > threshold; }, emit);
  row.each_selected(
      n, [&](int64_t i) { return key(i) == threshold; },
      [&](int64_t i, int64_t place) {
        if (above + place < wanted) emit(i, above + place);
      });
}

struct Select {
  SelectJob job;

  template <class Row>
  HD void operator()(const Row& row, int64_t index) const {
    const Selection chunk = job.chunks[index];
    const float* const x = job.values + chunk.first;
    const auto emit = [&](int64_t i, int64_t place) {
      job.indices[chunk.kept_first + place] = static_cast<int32_t>(i);
      job.compact[chunk.kept_first + place] = x[i];
    };
    if (job.by == SelectBy::kMagnitude) {
      largest(
          row, chunk.count, chunk.kept, [&](int64_t i) { return bits_of(x[i]) & kMagnitude; },
          emit);
      return;
    }
    float* const keys = job.keys + chunk.before;
    row.template each_uniform<float>(job.key, job.stream + static_cast<uint64_t>(index),
                                     chunk.count, [&](int64_t i, float u) { keys[i] = u; });
    largest(
        row, chunk.count, chunk.kept, [&](int64_t i) { return bits_of(keys[i]); }, emit);
  }
};

// body(chunk, j) for the kept elements of every chunk.
template <class Body>
struct EachKept {
  const Selection* chunks;
  Body body;
  template <class Row>
  HD void operator()(const Row& row, int64_t index) const {
    const Selection chunk = chunks[index];
    row.each(chunk.kept, [&](int64_t j) { body(chunk, j); });
  }
};

struct StoreIndex {
  const int32_t* indices;
  std::byte* wire;
  int64_t origin;
  HD void operator()(const Selection& chunk, int64_t j) const {
    const auto index = static_cast<uint16_t>(indices[chunk.kept_first + j]);
    memcpy(wire + (chunk.wire - origin) + 2 * j, &index, sizeof index);
  }
};

// What comes over the wire is not trusted to lie inside the chunk.
struct LoadIndex {
  int32_t* indices;
  const std::byte* wire;
  int64_t origin;
  HD void operator()(const Selection& chunk, int64_t j) const {
    uint16_t index;
    memcpy(&index, wire + (chunk.wire - origin) + 2 * j, sizeof index);
    indices[chunk.kept_first + j] =
        index < chunk.count ? int32_t{index} : static_cast<int32_t>(chunk.count - 1);
  }
};

struct Scatter {
  const Selection* chunks;
  const int32_t* indices;
  const float* compact;
  float* values;
  bool add;
  template <class Row>
  HD void operator()(const Row& row, int64_t index) const {
    const Selection chunk = chunks[index];
    float* const x = values + chunk.first;
    if (!add) row.each(chunk.count, [&](int64_t i) { x[i] = 0; });
    row.each_group(1, chunk.kept, [&](int64_t j, int) {
      x[indices[chunk.kept_first + j]] += compact[chunk.kept_first + j];
    });
  }
};

struct KeepResidual {
  const Selection* chunks;
  const int32_t* indices;
  const float* left;
  const float* values;
  float* residual;
  template <class Row>
  HD void operator()(const Row& row, int64_t index) const {
    const Selection chunk = chunks[index];
    row.each(chunk.count, [&](int64_t i) { residual[chunk.first + i] = values[chunk.first + i]; });
    row.each_group(1, chunk.kept, [&](int64_t j, int) {
      residual[chunk.first + indices[chunk.kept_first + j]] = left[chunk.kept_first + j];
    });
  }
};

struct ScaleByShare {
  const Selection* chunks;
  float* values;
  template <class Row>
  HD void operator()(const Row& row, int64_t index) const {
    const Selection chunk = chunks[index];
    if (chunk.kept == 0) return;
    const float factor = static_cast<float>(chunk.count) / static_cast<float>(chunk.kept);
    row.each(chunk.count, [&](int64_t i) { values[chunk.first + i] *= factor; });
  }
};

}  // namespace

void select(Exec& exec, const SelectJob& job) {
  for_each_row(exec, job.count, job.longest, Select{job});
}

void store_indices(Exec& exec, const Selection* chunks, int64_t count, int64_t longest,
                   const int32_t* indices, std::byte* wire, int64_t origin) {
  for_each_row(exec, count, longest,
               EachKept<StoreIndex>{chunks, StoreIndex{indices, wire, origin}});
}

void load_indices(Exec& exec, const Selection* chunks, int64_t count, int64_t longest,
                  int32_t* indices, const std::byte* wire, int64_t origin) {
  for_each_row(exec, count, longest, EachKept<LoadIndex>{chunks, LoadIndex{indices, wire, origin}});
}

void scatter(Exec& exec, const Selection* chunks, int64_t count, int64_t longest,
             const int32_t* indices, const float* compact, float* values, bool add) {
  for_each_row(exec, count, longest, Scatter{chunks, indices, compact, values, add});
}

void keep_residual(Exec& exec, const Selection* chunks, int64_t count, int64_t longest,
                   const int32_t* indices, const float* left, const float* values,
                   float* residual) {
  for_each_row(exec, count, longest, KeepResidual{chunks, indices, left, values, residual});
}

void scale_by_share(Exec& exec, const Selection* chunks, int64_t count, int64_t longest,
                    float* values) {
  for_each_row(exec, count, longest, ScaleByShare{chunks, values});
}

}  // namespace ringfort
