// Selection: exactly the largest, whatever ties, tails and threads; the same lots for the same key.
#include "kernels/select.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "tests/testing.h"

namespace ringfort {
namespace {

using testing::DeviceVector;
using testing::random_vector;

constexpr RandomKey kKey{5, Purpose::kCompress, 17};

struct Selected {
  DeviceVector<Selection> chunks;
  DeviceVector<float> values, keys, compact;
  DeviceVector<int32_t> indices;
  int64_t longest = 0;

  explicit Selected(const std::vector<std::pair<int64_t, int64_t>>& counts, uint64_t seed = 1) {
    int64_t first = 2, kept = 0, before = 0, wire = 50;
    for (const auto& [count, keep] : counts) {
      chunks.push_back({first, count, kept, keep, before, wire});
      first += count + 3;
      kept += keep;
      before += count;
      wire += 2 * keep + 7;
      longest = std::max(longest, count);
    }
    for (const double v : random_vector(first, seed)) values.push_back(static_cast<float>(v));
    keys.resize(static_cast<size_t>(before));
    compact.resize(static_cast<size_t>(kept));
    indices.resize(static_cast<size_t>(kept));
  }
  int64_t count() const { return std::ssize(chunks); }
  void run(SelectBy by, int threads = 1, uint64_t stream = 9) {
    Exec exec(kTestDevice, threads);
    select(exec, {chunks.data(), count(), longest, values.data(), by, kKey, stream, keys.data(),
                  indices.data(), compact.data()});
    testing::settle();
  }
  // Of chunk c, in the order of the indices.
  std::vector<int32_t> chosen(size_t c) const {
    const Selection& chunk = chunks[c];
    std::vector<int32_t> sorted(indices.begin() + chunk.kept_first,
                                indices.begin() + chunk.kept_first + chunk.kept);
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  }
};

// The `kept` largest by key, the lower index first where they are equal.
std::vector<int32_t> plain_choice(const std::vector<double>& key, int64_t kept) {
  std::vector<int32_t> order(key.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return key[static_cast<size_t>(a)] > key[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(kept));
  std::sort(order.begin(), order.end());
  return order;
}

const std::vector<std::pair<int64_t, int64_t>> kCounts = {
    {1, 1}, {2, 1}, {31, 3}, {33, 33}, {256, 1}, {257, 100}, {1000, 10}, {40, 0}};

}  // namespace

TEST_CASE("select: the largest magnitudes and their values") {
  for (const bool ties : {false, true})
    for (const int threads : testing::thread_counts()) {
      Selected all(kCounts);
      if (ties)
        for (float& v : all.values) v = std::round(3 * v);
      all.run(SelectBy::kMagnitude, threads);
      for (size_t c = 0; c < all.chunks.size(); ++c) {
        const Selection& chunk = all.chunks[c];
        std::vector<double> magnitude;
        for (int64_t i = 0; i < chunk.count; ++i)
          magnitude.push_back(std::abs(all.values[static_cast<size_t>(chunk.first + i)]));
        CAPTURE(ties, threads, chunk.count);
        CHECK(all.chosen(c) == plain_choice(magnitude, chunk.kept));
        for (int64_t j = chunk.kept_first; j < chunk.kept_first + chunk.kept; ++j)
          CHECK(all.compact[static_cast<size_t>(j)] ==
                all.values[static_cast<size_t>(chunk.first + all.indices[static_cast<size_t>(j)])]);
      }
    }
}

TEST_CASE("select: what is not a number is never left out") {
  Selected all({{500, 2}});
  all.values[2 + 321] = NAN;
  all.values[2 + 7] = -INFINITY;
  all.run(SelectBy::kMagnitude);
  CHECK(all.chosen(0) == std::vector<int32_t>{7, 321});
}

TEST_CASE("select: lots are those of the key for any number of threads") {
  for (const int threads : testing::thread_counts()) {
    Selected all(kCounts);
    all.run(SelectBy::kLot, threads);
    for (size_t c = 0; c < all.chunks.size(); ++c) {
      std::vector<double> lots;
      for (int64_t i = 0; i < all.chunks[c].count; ++i)
        lots.push_back(uniform01(kKey.word(9 + c, static_cast<uint32_t>(i))));
      CHECK(all.chosen(c) == plain_choice(lots, all.chunks[c].kept));
    }
  }
}

TEST_CASE("select: every element is drawn as often") {
  // Every device draws what the test before says, so one of them can speak for all.
  if (kTestDevice.kind != DeviceKind::kCpu) return;
  std::vector<int> drawn(20);
  const int chunks = 200, launches = 20;
  Selected all(std::vector<std::pair<int64_t, int64_t>>(chunks, {20, 5}));
  for (int launch = 0; launch < launches; ++launch) {
    all.run(SelectBy::kLot, 1, static_cast<uint64_t>(launch * chunks));
    for (size_t c = 0; c < chunks; ++c)
      for (const int32_t i : all.chosen(c)) ++drawn[static_cast<size_t>(i)];
  }
  for (const int times : drawn)
    CHECK(std::abs(times - chunks * launches / 4) < 140);  // 5 standard deviations
}

TEST_CASE("select: indices travel in 16 bits and what is kept comes back to its place") {
  Selected all(kCounts);
  all.run(SelectBy::kMagnitude, 2);
  Exec exec(kTestDevice, 2);
  DeviceVector<std::byte> wire(4000);
  DeviceVector<int32_t> loaded(all.indices.size());
  const Selection* const chunks = all.chunks.data();
  store_indices(exec, chunks, all.count(), all.longest, all.indices.data(), wire.data(), 50);
  load_indices(exec, chunks, all.count(), all.longest, loaded.data(), wire.data(), 50);
  DeviceVector<float> replaced(all.values.size(), 5.0f), added(all.values.size(), 5.0f);
  DeviceVector<float> residual(all.values.size(), 5.0f), left(all.compact.size(), 0.25f);
  scatter(exec, chunks, all.count(), all.longest, loaded.data(), all.compact.data(),
          replaced.data(), false);
  scatter(exec, chunks, all.count(), all.longest, loaded.data(), all.compact.data(), added.data(),
          true);
  keep_residual(exec, chunks, all.count(), all.longest, loaded.data(), left.data(),
                all.values.data(), residual.data());
  DeviceVector<float> scaled = all.values;
  scale_by_share(exec, chunks, all.count(), all.longest, scaled.data());
  testing::settle();
  CHECK(loaded == all.indices);
  std::vector<int> role(all.values.size());  // 0 outside, 1 left out, 2 kept
  std::vector<float> factor(all.values.size(), 1.0f);
  for (size_t c = 0; c < all.chunks.size(); ++c) {
    const Selection& chunk = all.chunks[c];
    for (int64_t i = 0; i < chunk.count; ++i) {
      role[static_cast<size_t>(chunk.first + i)] = 1;
      if (chunk.kept > 0)
        factor[static_cast<size_t>(chunk.first + i)] =
            static_cast<float>(chunk.count) / static_cast<float>(chunk.kept);
    }
    for (const int32_t i : all.chosen(c)) role[static_cast<size_t>(chunk.first + i)] = 2;
  }
  for (size_t i = 0; i < role.size(); ++i) {
    const float value = all.values[i];
    CHECK(replaced[i] == (role[i] == 2 ? value : role[i] == 1 ? 0.0f : 5.0f));
    CHECK(added[i] == (role[i] == 2 ? 5 + value : 5.0f));
    CHECK(residual[i] == (role[i] == 2 ? 0.25f : role[i] == 1 ? value : 5.0f));
    CHECK(scaled[i] == value * factor[i]);
  }
}

TEST_CASE("select: indices beyond their chunk are kept inside it") {
  Selected all({{10, 2}});
  Exec exec(kTestDevice, 1);
  DeviceVector<std::byte> wire(4, std::byte{0xFF});
  load_indices(exec, all.chunks.data(), 1, 10, all.indices.data(), wire.data(), 50);
  testing::settle();
  CHECK(all.indices == DeviceVector<int32_t>{9, 9});
}

}  // namespace ringfort
