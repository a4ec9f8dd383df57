// Batches of images that are decoded: the same bytes for any number of workers, broken images
// replaced and named.
#include <atomic>
#include <catch2/catch.hpp>
#include <map>
#include <numeric>
#include <set>

#include "adversarial/memory_plan.h"
#include "engine/data/feed.h"
#include "engine/transfer.h"
#include "tests/image_files.h"
#include "tests/quarters.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

class FilesInMemory final : public EncodedImages {
 public:
  std::string name(int64_t i) const override {
    return (line_break ? "picture\n" : "picture ") + std::to_string(i);
  }
  std::vector<uint8_t> read(int64_t i) const override {
    require(i != gone, "'{}' cannot be read: it is gone", name(i));
    return files[size_t(i)];
  }
  std::vector<Bytes> files;
  int64_t gone = -1;
  bool line_break = false;  // in the names, as file systems allow
};

// `count` JPEGs and PNGs of many sizes. Those of `broken` are cut in half.
Dataset pictures(int count, const std::set<int>& broken = {}, int size = 16) {
  auto images = std::make_shared<FilesInMemory>();
  Dataset data;
  data.name = "pictures";
  data.count = count;
  data.height = data.width = size;
  data.channels = 3;
  data.class_names = {"a", "b", "c"};
  for (int i = 0; i < count; ++i) {
    const int height = 20 + i * 7 % 31, width = 20 + i * 5 % 37;
    const Bytes pixels = picture(height, width, 3, i);
    Bytes file = i % 3 == 0 ? png_file(height, width, pixels) : jpeg_file(height, width, pixels);
    if (broken.count(i) > 0) file.resize(file.size() / 2);
    images->files.push_back(std::move(file));
    data.labels.push_back(i % 3);
  }
  data.encoded = images;
  return data;
}

std::vector<int64_t> numbers(int64_t count) {
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return indices;
}

constexpr ImageTransform kTraining{.size = 16, .random_resized_crop = true, .seed = 3, .epoch = 2};

}  // namespace

TEST_CASE("workers share items, and pass on the first error", "[data]") {
  for (const int threads : {1, 2, 5}) {
    Workers workers(threads);
    CHECK(workers.threads() == threads);
    for (int64_t count : {0, 1, 3, 100}) {
      std::vector<std::atomic<int>> done(size_t(count) + 1);
      workers.run(count, [&](int64_t item, int worker) {
        done[size_t(item)] += worker >= 0 && worker < threads ? 1 : 100;
      });
      for (int64_t i = 0; i < count; ++i) CHECK(done[size_t(i)] == 1);
      CHECK(done[size_t(count)] == 0);
    }
    const auto failing = [&] {
      workers.run(50, [](int64_t item, int) { require(item < 7, "item {} went wrong", item); });
    };
    CHECK_THAT(error_of(failing), Contains("item 7 went wrong"));
    std::atomic<int> after{0};
    workers.run(10, [&](int64_t, int) { ++after; });
    CHECK(after == 10);
  }
  CHECK_THAT(error_of([] { Workers none(0); }), Contains("at least one"));
}

TEST_CASE("a decoded batch is the same for any number of workers", "[data]") {
  const Dataset data = pictures(40, {7, 8, 39});
  std::vector<int64_t> samples = numbers(40);
  std::reverse(samples.begin(), samples.end());
  Batch first;
  BatchGatherer(data, numbers(40), 1).gather(samples, kTraining, first);
  CHECK(first.pixels.size() == size_t{40} * 16 * 16 * 3);
  for (const int workers : {2, 4}) {
    Batch batch;
    BatchGatherer(data, numbers(40), workers).gather(samples, kTraining, batch);
    CHECK(batch.pixels == first.pixels);
    CHECK(batch.labels == first.labels);
    CHECK(batch.samples == first.samples);
    CHECK(batch.broken == first.broken);
  }
  // Every image is what the pipeline makes of it alone.
  for (size_t i = 0; i < samples.size(); ++i) {
    Bytes alone(16 * 16 * 3);
    const int64_t sample = first.samples[i];
    ImagePipeline().run(data.encoded->read(sample), "", kTraining, sample, alone.data());
    CHECK(std::equal(alone.begin(), alone.end(), first.pixels.begin() + int64_t(i * alone.size())));
  }
}

TEST_CASE(
    "a broken image is replaced by the next intact one of its own kind, "
    "and named",
    "[data]") {
  const Dataset data = pictures(12, {3, 4, 11});
  // 5 is another's: it must not stand in.
  const std::vector<int64_t> mine = {11, 0, 3, 4, 6, 9, 2};
  Batch batch;
  BatchGatherer gatherer(data, mine, 2);
  gatherer.gather(std::vector<int64_t>{11, 3, 9, 4}, {.size = 16}, batch);
  CHECK(batch.samples == std::vector<int64_t>{0, 6, 9, 6});
  CHECK(batch.labels == std::vector<int32_t>{0, 0, 0, 0});
  REQUIRE(batch.broken.size() == 3);
  CHECK((batch.broken[0].sample == 11 && batch.broken[0].replaced_by == 0));
  CHECK((batch.broken[1].sample == 3 && batch.broken[1].replaced_by == 6));
  CHECK((batch.broken[2].sample == 4 && batch.broken[2].replaced_by == 6));
  CHECK_THAT(batch.broken[1].reason, Contains("image 'picture 3' is not an intact PNG"));
  const std::string told = describe(batch.broken);
  CHECK_THAT(told, Contains("3 images could not be decoded") && Contains("picture 11") &&
                       Contains("picture 3") && Contains("picture 4"));
  CHECK_THAT(describe(std::vector<BrokenImage>(9, batch.broken[0])), Contains("and 4 more"));
  Batch expected;
  gatherer.gather(std::vector<int64_t>{0, 6, 9, 6}, {.size = 16}, expected);
  CHECK(batch.pixels == expected.pixels);
  CHECK(expected.broken.empty());

  Dataset without = data;
  auto images = std::make_shared<FilesInMemory>(static_cast<const FilesInMemory&>(*data.encoded));
  images->gone = 6;
  images->line_break = true;
  without.encoded = images;
  BatchGatherer(without, mine).gather(std::vector<int64_t>{6}, {.size = 16}, batch);
  CHECK(batch.samples == std::vector<int64_t>{9});
  CHECK_THAT(batch.broken.at(0).reason, Contains("picture?6") && Contains("it is gone"));

  CHECK_THAT(error_of([&] {
               BatchGatherer(data, {3, 4, 11}).gather(std::vector<int64_t>{4}, {.size = 16}, batch);
             }),
             Contains("none of its 3 images") && Contains("picture 4"));
  CHECK_THAT(error_of([&] { gatherer.gather(std::vector<int64_t>{5}, {.size = 16}, batch); }),
             Contains("sample 5"));
}

TEST_CASE(
    "a loader decodes an epoch: the same for any number of workers, "
    "other crops in another",
    "[data]") {
  const Dataset data = pictures(30, {4});
  std::vector<Bytes> first;
  for (const int workers : {1, 2, 4}) {
    Loader loader(data, numbers(30),
                  {.batch_size = 8, .seed = 3, .workers = workers, .random_resized_crop = true});
    std::vector<Bytes> pixels;
    for (const uint32_t epoch : {0u, 1u}) {
      std::vector<Bytes> of_sample(30);
      std::vector<BrokenImage> broken;
      loader.start_epoch(epoch);
      Batch batch;
      while (loader.next(batch)) {
        for (size_t i = 0; i < batch.samples.size(); ++i)
          of_sample[size_t(batch.samples[i])].assign(batch.pixels.begin() + int64_t(i * 768),
                                                     batch.pixels.begin() + int64_t(i * 768 + 768));
        broken.insert(broken.end(), batch.broken.begin(), batch.broken.end());
      }
      REQUIRE(broken.size() == 1);
      CHECK((broken[0].sample == 4 && broken[0].replaced_by == 5));
      CHECK(of_sample[4].empty());
      pixels.insert(pixels.end(), of_sample.begin(), of_sample.end());
    }
    if (first.empty()) first = pixels;
    CHECK(pixels == first);
  }
  CHECK(first[0] != first[30]);
}

TEST_CASE("a feed gives the decoded batches, and stops wherever it is left", "[data]") {
  const Dataset data = pictures(20, {4});
  Exec exec({}, 1);
  Pool pool;
  const LoaderOptions options{
      .batch_size = 6, .seed = 3, .workers = 2, .random_resized_crop = true};
  for (int taken = 0; taken < 4; ++taken) {
    Feed feed(exec, data, numbers(20), options, Residency::kResident);
    CHECK_FALSE(feed.resident());
    Loader loader(data, numbers(20), options);
    feed.start_epoch(2);
    loader.start_epoch(2);
    DeviceBatch batch;
    Batch expected;
    for (int i = 0; i < taken; ++i) {
      REQUIRE(loader.next(expected));
      REQUIRE(feed.next(pool, batch));
      CHECK(batch.shape == Shape{6, 16, 16, 3});
      CHECK(batch.order == ImageOrder::kBatch);
      CHECK(to_vector<uint8_t>(exec, batch.images) == expected.pixels);
      CHECK(to_vector<int32_t>(exec, batch.labels) == expected.labels);
      CHECK(to_vector<int64_t>(exec, batch.samples) == expected.samples);
      CHECK(feed.broken() == expected.broken);
    }
  }
}

TEST_CASE("ranks decode their parts of what one rank decodes", "[data]") {
  const Dataset data = pictures(20, {4});
  Exec exec({}, 1);
  Pool pool;
  for (const int ranks : {1, 3}) {
    std::map<int64_t, std::pair<int64_t, Bytes>> taken;  // place in the epoch -> sample and pixels
    for (int rank = 0; rank < ranks; ++rank) {
      const LoaderOptions options{.batch_size = 6 / ranks,
                                  .seed = 3,
                                  .rank = rank,
                                  .ranks = ranks,
                                  .random_resized_crop = true};
      Feed feed(exec, data, numbers(20), options);
      feed.start_epoch(2);
      DeviceBatch batch;
      int64_t first = rank * options.batch_size;
      for (int64_t number = 0; feed.next(pool, batch); ++number) {
        if (number == 3) first = 18 + rank;  // two are left for three ranks
        const auto pixels = to_vector<uint8_t>(exec, batch.images);
        const auto samples = to_vector<int64_t>(exec, batch.samples);
        for (size_t i = 0; i < samples.size(); ++i)
          taken[first + static_cast<int64_t>(i)] = {
              samples[i],
              {pixels.begin() + int64_t(i * 768), pixels.begin() + int64_t(i * 768 + 768)}};
        first += 6;
      }
    }
    REQUIRE(taken.size() == 20);
    static const auto alone = taken;
    CHECK(taken == alone);
  }
}

TEST_CASE("memory is planned without decoding an image", "[data]") {
  class Unreadable final : public EncodedImages {
   public:
    std::string name(int64_t) const override { return "picture"; }
    std::vector<uint8_t> read(int64_t) const override { fail("an image was read"); }
  };
  Dataset data = pictures(0);
  data.count = 100;
  data.labels.assign(100, 1);
  data.mean = data.std = {0.5f, 0.5f, 0.5f};
  data.encoded = std::make_shared<Unreadable>();
  Dataset in_memory = data;
  in_memory.encoded = nullptr;
  in_memory.pixels.resize(size_t{100} * 16 * 16 * 3);
  const MemoryUse plan = plan_memory(small_recipe(), data, {});
  CHECK(plan == plan_memory(small_recipe(), in_memory, {}));
  // On a GPU a batch has two places where the next ones arrive.
  const Device gpu{.kind = DeviceKind::kCuda};
  CHECK(plan_memory(small_recipe(), data, gpu).data == 2 * 16 * 16 * 16 * 3);
}
