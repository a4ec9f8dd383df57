// The hold-out split, the order of an epoch, the prefetching loader and the feed.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "engine/data/feed.h"
#include "engine/data/hold_out.h"
#include "engine/transfer.h"
#include "tests/temp_folder.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

// A data set in memory whose every pixel tells its image.
Dataset numbered_dataset(int64_t count) {
  Dataset data;
  data.name = "numbered";
  data.count = count;
  data.height = 2;
  data.width = 3;
  data.channels = 1;
  for (int64_t i = 0; i < count; ++i) {
    for (int p = 0; p < 6; ++p) data.pixels.push_back(static_cast<uint8_t>(i * 6 + p));
    data.labels.push_back(static_cast<int32_t>(i % 10));
  }
  return data;
}

std::vector<int64_t> iota(int64_t count) {
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return indices;
}

std::vector<int64_t> samples_of_epoch(Loader& loader, uint32_t epoch) {
  std::vector<int64_t> samples;
  Batch batch;
  loader.start_epoch(epoch);
  while (loader.next(batch))
    samples.insert(samples.end(), batch.samples.begin(), batch.samples.end());
  return samples;
}

// Of epoch 4: samples by rank and batch.
std::vector<std::vector<std::vector<int64_t>>> batches_of_ranks(const Dataset& data,
                                                                const std::vector<int64_t>& indices,
                                                                int64_t batch_size, int ranks,
                                                                bool drop_last) {
  std::vector<std::vector<std::vector<int64_t>>> all(static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<std::vector<int64_t>>& own = all[static_cast<size_t>(rank)];
    Loader loader(data, indices,
                  {.batch_size = batch_size,
                   .seed = 9,
                   .drop_last = drop_last,
                   .rank = rank,
                   .ranks = ranks});
    Batch batch;
    int64_t samples = 0;
    loader.start_epoch(4);
    while (loader.next(batch)) {
      own.push_back(batch.samples);
      samples += batch.size();
    }
    CHECK(loader.batches_per_epoch() == static_cast<int64_t>(own.size()));
    CHECK(loader.samples_per_epoch() == samples);
  }
  return all;
}

}  // namespace

TEST_CASE("the hold-out split is disjoint, complete and keyed by the seed alone", "[data]") {
  const HoldOut split = split_hold_out(1000, 100, 7);
  CHECK(split.held_out.size() == 100);
  CHECK(std::is_sorted(split.training.begin(), split.training.end()));
  CHECK(std::is_sorted(split.held_out.begin(), split.held_out.end()));
  std::set<int64_t> all(split.training.begin(), split.training.end());
  all.insert(split.held_out.begin(), split.held_out.end());
  CHECK(all.size() == 1000);
  CHECK((*all.begin() == 0 && *all.rbegin() == 999));

  CHECK(split_hold_out(1000, 100, 7).held_out == split.held_out);
  CHECK(split_hold_out(1000, 100, 8).held_out != split.held_out);
  const HoldOut larger = split_hold_out(1000, 300, 7);
  CHECK(std::includes(larger.held_out.begin(), larger.held_out.end(), split.held_out.begin(),
                      split.held_out.end()));
  CHECK(split_hold_out(5, 0, 7).training == iota(5));
  for (const int64_t held_out : {-1, 5, 6})
    CHECK_THAT(error_of([&] { split_hold_out(5, held_out, 7); }), Contains("from 0 to 4"));

  // Each of 10 samples is among 3 held out with probability 0.3: 3000 of 10000 seeds, +- 5 sigma.
  std::array<int, 10> times{};
  for (uint64_t seed = 0; seed < 10000; ++seed)
    for (const int64_t sample : split_hold_out(10, 3, seed).held_out)
      ++times[static_cast<size_t>(sample)];
  for (const int count : times) CHECK(std::abs(count - 3000) < 5 * 46);
}

TEST_CASE("an epoch's order is a uniform permutation keyed by seed and epoch", "[data]") {
  const std::vector<int64_t> indices{4, 8, 15, 16, 23, 42};
  std::vector<int64_t> order = epoch_order(indices, 1, 0);
  CHECK(order == epoch_order(indices, 1, 0));
  const std::vector<int64_t> hundred = iota(100);
  CHECK(epoch_order(hundred, 1, 0) != epoch_order(hundred, 1, 1));
  CHECK(epoch_order(hundred, 1, 0) != epoch_order(hundred, 2, 0));
  CHECK(epoch_order(hundred, 1, 0) != hundred);
  std::sort(order.begin(), order.end());
  CHECK(order == indices);
  CHECK(epoch_order({}, 1, 0).empty());

  // 24 permutations of 4, 24000 epochs: 1000 each, +- 5 sigma.
  std::map<std::vector<int64_t>, int> times;
  const std::vector<int64_t> four = iota(4);
  for (uint32_t epoch = 0; epoch < 24000; ++epoch) ++times[epoch_order(four, 3, epoch)];
  CHECK(times.size() == 24);
  for (const auto& [permutation, count] : times) CHECK(std::abs(count - 1000) < 5 * 31);
}

TEST_CASE("the loader gives what a synchronous gather gives", "[data]") {
  const Dataset data = numbered_dataset(53);
  const std::vector<int64_t> indices = split_hold_out(53, 10, 5).training;
  Loader loader(data, indices, {.batch_size = 8, .seed = 5});
  CHECK(loader.batches_per_epoch() == 6);
  BatchGatherer gatherer(data, indices);
  Batch batch, expected;  // the same Batch throughout: recycled buffers must not show
  for (const uint32_t epoch : {0u, 1u, 7u}) {
    const std::vector<int64_t> order = epoch_order(indices, 5, epoch);
    loader.start_epoch(epoch);
    for (size_t begin = 0; begin < order.size(); begin += 8) {
      const size_t size = std::min<size_t>(8, order.size() - begin);
      gatherer.gather(std::span(order).subspan(begin, size), {}, expected);
      REQUIRE(loader.next(batch));
      CHECK(batch.samples == expected.samples);
      CHECK(batch.labels == expected.labels);
      CHECK(batch.pixels == expected.pixels);
      for (size_t i = 0; i < size; ++i) {
        CHECK(batch.pixels[i * 6 + 5] == static_cast<uint8_t>(batch.samples[i] * 6 + 5));
        CHECK(batch.labels[i] == batch.samples[i] % 10);
      }
    }
    CHECK_FALSE(loader.next(batch));
    CHECK_FALSE(loader.next(batch));
  }
}

TEST_CASE("a feed gives the loader's batches, whole data set in place or batch by batch",
          "[data]") {
  const Dataset data = numbered_dataset(53);
  Exec exec({}, 1);
  Pool pool;
  for (const Residency residency : {Residency::kAuto, Residency::kStreamed}) {
    Feed feed(exec, data, iota(53), {.batch_size = 8, .seed = 5}, residency);
    CHECK(feed.resident() == (residency == Residency::kAuto));
    Loader loader(data, iota(53), {.batch_size = 8, .seed = 5});
    feed.start_epoch(2);
    loader.start_epoch(2);
    DeviceBatch batch;
    Batch expected;
    while (loader.next(expected)) {
      REQUIRE(feed.next(pool, batch));
      CHECK(to_vector<int64_t>(exec, batch.samples) == expected.samples);
      CHECK(to_vector<int32_t>(exec, batch.labels) == expected.labels);
      const Tensor x(pool, batch.shape, Dtype::kFloat32);
      pad_crop_flip(exec, x, batch.images, batch.samples.as<int64_t>(), {}, batch.order);
      const auto pixels = to_vector<float>(exec, x);
      REQUIRE(pixels.size() == expected.pixels.size());
      for (size_t i = 0; i < pixels.size(); ++i)
        CHECK(pixels[i] == static_cast<float>(expected.pixels[i]) / 255.0f);
    }
    CHECK_FALSE(feed.next(pool, batch));
  }
}

TEST_CASE("the loader's order does not depend on the batch size", "[data]") {
  const Dataset data = numbered_dataset(100);
  const std::vector<int64_t> expected = epoch_order(iota(100), 9, 4);
  for (const int64_t batch_size : {int64_t{1}, int64_t{7}, int64_t{100}, INT64_MAX}) {
    Loader loader(data, iota(100), {.batch_size = batch_size, .seed = 9});
    CHECK(samples_of_epoch(loader, 4) == expected);
  }
  Loader dropping(data, iota(100), {.batch_size = 7, .seed = 9, .drop_last = true});
  CHECK(dropping.batches_per_epoch() == 14);
  CHECK(dropping.samples_per_epoch() == 98);
  CHECK(samples_of_epoch(dropping, 4) ==
        std::vector<int64_t>(expected.begin(), expected.begin() + 98));
  Loader unshuffled(data, {5, 3, 99}, {.batch_size = 2, .shuffle = false});
  CHECK(samples_of_epoch(unshuffled, 4) == std::vector<int64_t>{5, 3, 99});
}

TEST_CASE("ranks share every batch of the order that one rank walks", "[data]") {
  const Dataset data = numbered_dataset(60);
  for (const int64_t count : {1, 4, 7, 12, 53, 60})
    for (const int64_t batch_size : {1, 3, 4})
      for (int ranks = 1; ranks <= 5; ++ranks)
        for (const bool drop_last : {false, true}) {
          if (drop_last && count < batch_size * ranks) continue;
          INFO(count << " samples, " << ranks << " ranks of " << batch_size << ", " << drop_last);
          const std::vector<std::vector<std::vector<int64_t>>> all =
              batches_of_ranks(data, iota(count), batch_size, ranks, drop_last);
          const int64_t batch = ranks * batch_size, full = count / batch;
          std::vector<int64_t> joint;
          for (size_t number = 0; number < all[0].size(); ++number) {
            size_t least = SIZE_MAX, most = 0;
            for (const auto& rank : all) {
              const std::vector<int64_t> part =
                  number < rank.size() ? rank[number] : std::vector<int64_t>();
              joint.insert(joint.end(), part.begin(), part.end());
              least = std::min(least, part.size());
              most = std::max(most, part.size());
            }
            CHECK(most - least <= 1);
            if (static_cast<int64_t>(number) < full)
              CHECK((least == most && static_cast<int64_t>(most) == batch_size));
          }
          std::vector<int64_t> order = epoch_order(iota(count), 9, 4);
          if (drop_last) {
            for (const auto& rank : all) CHECK(static_cast<int64_t>(rank.size()) == full);
            order.resize(static_cast<size_t>(full * batch));
          }
          CHECK(joint == order);
        }
}

TEST_CASE("a rank goes on in the middle of an epoch, or has nothing to do", "[data]") {
  const Dataset data = numbered_dataset(53);
  for (const int rank : {0, 2}) {
    Loader loader(data, iota(53), {.batch_size = 4, .seed = 9, .rank = rank, .ranks = 3});
    const std::vector<int64_t> whole = samples_of_epoch(loader, 1);
    Batch batch;
    std::vector<int64_t> rest;
    loader.start_epoch(1, 2);
    while (loader.next(batch)) rest.insert(rest.end(), batch.samples.begin(), batch.samples.end());
    CHECK(rest == std::vector<int64_t>(whole.begin() + 8, whole.end()));
  }
  for (int rank = 0; rank < 4; ++rank) {
    Loader loader(data, iota(2), {.batch_size = 3, .rank = rank, .ranks = 4});
    CHECK(loader.batches_per_epoch() == (rank < 2 ? 1 : 0));
    CHECK(samples_of_epoch(loader, 0).size() == (rank < 2 ? 1 : 0));
  }
}

TEST_CASE("ranks that cannot be are refused", "[data]") {
  const Dataset data = numbered_dataset(20);
  const auto error = [&](LoaderOptions options) {
    return error_of([&] { const Loader broken(data, iota(20), options); });
  };
  CHECK_THAT(error({.rank = 2, .ranks = 2}), Contains("rank 2 of 2"));
  CHECK_THAT(error({.rank = -1, .ranks = 2}), Contains("rank -1 of 2"));
  CHECK_THAT(error({.ranks = 0}), Contains("rank 0 of 0"));
  CHECK_THAT(error({.batch_size = INT64_MAX, .ranks = 2}), Contains("2 ranks cannot"));
  CHECK_THAT(error({.batch_size = 7, .drop_last = true, .ranks = 3}),
             Contains("20 samples do not fill one batch of 7 on each of 3 ranks"));
}

TEST_CASE("the loader stops cleanly wherever it is left", "[data]") {
  const Dataset data = numbered_dataset(100);
  Batch batch;
  for (int taken = 0; taken < 12; ++taken) {
    Loader loader(data, iota(100), {.batch_size = 9, .seed = 2});
    loader.start_epoch(0);
    for (int i = 0; i < taken; ++i) REQUIRE(loader.next(batch));
    if (taken % 2 == 0) continue;  // destroyed with a full queue
    loader.start_epoch(1);         // or sent on: nothing of epoch 0 may be left
    REQUIRE(loader.next(batch));
    const std::vector<int64_t> order = epoch_order(iota(100), 2, 1);
    CHECK(batch.samples == std::vector<int64_t>(order.begin(), order.begin() + 9));
  }
  const Loader never_started(data, iota(100), {});
}

TEST_CASE("the loader passes errors on", "[data]") {
  Dataset data = numbered_dataset(20);
  Batch batch;
  Loader loader(data, iota(20), {.batch_size = 4, .shuffle = false});
  CHECK_THAT(error_of([&] { loader.next(batch); }), Contains("start_epoch()"));
  data.count = 10;  // makes the gathering thread fail at sample 10, in the third batch
  loader.start_epoch(0);
  CHECK(loader.next(batch));
  CHECK(loader.next(batch));
  for (int repeat = 0; repeat < 2; ++repeat)
    CHECK_THAT(error_of([&] { loader.next(batch); }), Contains("image 10"));
  data.count = 20;
  loader.start_epoch(1);
  CHECK(loader.next(batch));

  const auto error = [&](std::vector<int64_t> indices, LoaderOptions options) {
    return error_of([&] { const Loader broken(data, indices, options); });
  };
  CHECK_THAT(error({0, 20}, {}), Contains("samples 0 to 20"));
  CHECK_THAT(error({-1}, {}), Contains("samples -1"));
  CHECK_THAT(error({}, {}), Contains("no samples"));
  CHECK_THAT(error({1}, {.batch_size = 0}), Contains("batch size is 0"));
  CHECK_THAT(error({1, 2}, {.batch_size = 3, .drop_last = true}), Contains("do not fill"));
}
