// Data files, whole and in every broken shape.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "engine/data/dataset.h"
#include "engine/data/formats.h"
#include "tests/idx_files.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

const std::string kImages = "train-images-idx3-ubyte", kLabels = "train-labels-idx1-ubyte";

Bytes image_values(size_t count) {
  Bytes values(count * kMnistImage);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(i * 7 + i / 251);
  return values;
}

Bytes label_values(size_t count) {
  Bytes values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<uint8_t>(i * 3 % 10);
  return values;
}

void write_mnist(const TempFolder& folder, uint32_t count) {
  write_idx(folder, "train", image_values(count), label_values(count));
}

std::string mnist_error(const TempFolder& folder) {
  return error_of([&] { load_dataset("mnist", folder.path(), Split::kTrain); });
}

}  // namespace

TEST_CASE("IDX files load the same plain and gzipped", "[data]") {
  const TempFolder plain, zipped;
  write_mnist(plain, 12);
  for (const std::string& name : {kImages, kLabels})
    spit(zipped / (name + ".gz"), gzip(slurp(plain / name)));
  const Dataset a = load_dataset("mnist", plain.path(), Split::kTrain);
  const Dataset b = load_dataset("fashion-mnist", zipped.path(), Split::kTrain);
  CHECK(a.count == 12);
  CHECK((a.height == 28 && a.width == 28 && a.channels == 1));
  CHECK(a.pixels == image_values(12));
  CHECK(a.labels[7] == 1);
  CHECK(a.pixels == b.pixels);
  CHECK(a.labels == b.labels);
  CHECK(a.class_names[9] == "9");
  CHECK(b.class_names[9] == "Ankle boot");
  const std::span<const uint8_t> last = a.image(11);
  CHECK(std::equal(last.begin(), last.end(), a.pixels.end() - kMnistImage, a.pixels.end()));
  CHECK_THROWS_AS(a.image(12), Error);
  CHECK_THROWS_AS(a.image(-1), Error);
}

TEST_CASE("Fashion-MNIST as Debian installs it", "[data]") {
  const std::filesystem::path dir = "/usr/share/datasets/fashion-mnist";
  INFO("needs Debian's package dataset-fashion-mnist");
  REQUIRE(std::filesystem::exists(dir));
  const Dataset train = load_dataset("fashion-mnist", dir, Split::kTrain);
  CHECK(load_dataset("fashion-mnist", dir, Split::kTest).count == 10000);
  REQUIRE(train.count == 60000);
  for (int32_t y = 0; y < 10; ++y)
    CHECK(std::count(train.labels.begin(), train.labels.end(), y) == 6000);
  uint64_t sum = 0, squares = 0;
  for (const uint8_t pixel : train.pixels) {
    sum += pixel;
    squares += uint64_t{pixel} * pixel;
  }
  const double n = static_cast<double>(train.pixels.size());
  const double mean = static_cast<double>(sum) / n / 255;
  const double variance = static_cast<double>(squares) / n / 255 / 255 - mean * mean;
  CHECK(train.mean[0] == Approx(mean).margin(1e-4));
  CHECK(train.std[0] == Approx(std::sqrt(variance)).margin(1e-4));
}

TEST_CASE("broken IDX files are refused by one sentence", "[data]") {
  const TempFolder folder;
  write_mnist(folder, 3);
  REQUIRE(mnist_error(folder).empty());
  const Bytes images = slurp(folder / kImages), labels = slurp(folder / kLabels);

  SECTION("truncated anywhere") {
    for (size_t size = 0; size < images.size(); size += size < 20 ? 1 : 97) {
      spit(folder / kImages, Bytes(images.begin(), images.begin() + static_cast<int64_t>(size)));
      CHECK_THAT(mnist_error(folder), Contains(kImages) && Contains("truncated"));
    }
  }
  SECTION("too long") {
    Bytes longer = labels;
    longer.push_back(0);
    spit(folder / kLabels, longer);
    CHECK_THAT(mnist_error(folder), Contains(kLabels) && Contains("1 bytes after its end"));
  }
  SECTION("wrong magic: labels where images should be") {
    spit(folder / kImages, labels);
    CHECK_THAT(mnist_error(folder), Contains(kImages) && Contains("0x00000801"));
  }
  SECTION("wrong shape") {
    spit(folder / kImages, idx_bytes({3, 14, 56}, image_values(3)));
    CHECK_THAT(mnist_error(folder), Contains("14 x 56"));
  }
  SECTION("dimensions that overflow") {
    spit(folder / kImages, idx_bytes({0xffffffff, 0xffffffff, 0xffffffff}, image_values(3)));
    CHECK_THAT(mnist_error(folder), Contains("cannot be"));
    spit(folder / kImages, idx_bytes({0, 28, 28}, {}));
    CHECK_THAT(mnist_error(folder), Contains("dimension of 0"));
  }
  SECTION("labels of other images, or out of range") {
    spit(folder / kLabels, idx_bytes({4}, label_values(4)));
    CHECK_THAT(mnist_error(folder), Contains("4 labels for the 3 images"));
    spit(folder / kLabels, idx_bytes({3}, {9, 10, 0}));
    CHECK_THAT(mnist_error(folder), Contains("label 1 is 10"));
  }
  SECTION("missing files and folders") {
    std::filesystem::remove(folder / kLabels);
    CHECK_THAT(mnist_error(folder), Contains(kLabels + ".gz"));
    CHECK_THAT(error_of([&] { load_dataset("mnist", folder / "absent", Split::kTrain); }),
               Contains("absent") && Contains("not a folder"));
    std::filesystem::create_directory(folder / kLabels);
    CHECK_THAT(mnist_error(folder), Contains("not a regular file"));
  }
}

TEST_CASE("damaged gzip files are refused", "[data]") {
  const TempFolder folder;
  write_mnist(folder, 3);
  const Bytes values = slurp(folder / kImages), whole = gzip(values);
  const Dataset intact = load_dataset("mnist", folder.path(), Split::kTrain);
  std::filesystem::remove(folder / kImages);
  const auto file = folder / (kImages + ".gz");
  const size_t stride = whole.size() / 199 + 1;

  SECTION("truncated") {
    for (size_t size = 0; size < whole.size(); size += stride) {
      spit(file, Bytes(whole.begin(), whole.begin() + static_cast<int64_t>(size)));
      CHECK_THAT(mnist_error(folder), Contains(kImages) && Contains("truncated"));
    }
  }
  SECTION("flipped bits") {
    for (size_t i = 0; i < whole.size(); i += i < 24 ? 1 : stride) {
      Bytes flipped = whole;
      flipped[i] ^= static_cast<uint8_t>(1u << i % 8);
      spit(file, flipped);
      // gzip's header has unused bits and a time stamp, which nothing protects and nothing needs.
      if (i < 10 && mnist_error(folder).empty())
        CHECK(load_dataset("mnist", folder.path(), Split::kTrain).pixels == intact.pixels);
      else
        CHECK_THAT(mnist_error(folder), Contains(kImages));
    }
  }
  SECTION("garbage behind the end, plain data under the name") {
    Bytes longer = whole;
    longer.push_back(0);
    spit(file, longer);
    CHECK_THAT(mnist_error(folder), Contains("1 bytes after the end"));
    spit(file, values);
    CHECK_THAT(mnist_error(folder), Contains("not intact gzip data"));
  }
  SECTION("a small file that unpacks to a large one") {
    const Bytes bomb = gzip(Bytes(1'000'000));
    CHECK(gunzip(bomb, 1'000'000, "bomb.gz").size() == 1'000'000);
    for (const size_t most : {0, 1, 65535, 65536, 999'999})
      CHECK_THAT(error_of([&] { gunzip(bomb, most, "bomb.gz"); }),
                 Contains(fmt::format("bomb.gz' unpacks to more than {} bytes", most)));
  }
}

namespace {

constexpr size_t kCifarRecord = 3073, kCifarCount = 10000;

// Label and pixels of every record are functions of (batch, record, channel, position).
Bytes cifar_batch(size_t batch) {
  Bytes bytes(kCifarCount * kCifarRecord);
  for (size_t i = 0; i < kCifarCount; ++i) {
    uint8_t* record = bytes.data() + i * kCifarRecord;
    record[0] = static_cast<uint8_t>((i + batch) % 10);
    for (size_t p = 0; p < 3072; ++p) record[1 + p] = static_cast<uint8_t>(p * 5 + p / 1024 + i);
  }
  return bytes;
}

}  // namespace

TEST_CASE("CIFAR-10's binary files become channels-last pixels", "[data]") {
  const TempFolder folder;
  const auto inner = folder / "cifar-10-batches-bin";
  std::filesystem::create_directory(inner);
  for (size_t b = 1; b <= 5; ++b) spit(inner / fmt::format("data_batch_{}.bin", b), cifar_batch(b));
  const Dataset data = load_dataset("cifar10", folder.path(), Split::kTrain);
  CHECK(data.count == 50000);
  REQUIRE(data.pixels.size() == 50000u * 3072);
  CHECK((data.height == 32 && data.width == 32 && data.channels == 3));
  for (const int64_t i : {0, 9999, 10000, 49999}) {
    const size_t record = static_cast<size_t>(i) % kCifarCount;
    CHECK(data.labels[static_cast<size_t>(i)] == (i % 10000 + i / 10000 + 1) % 10);
    const std::span<const uint8_t> image = data.image(i);
    size_t wrong = 0;
    for (size_t p = 0; p < 1024; ++p)
      for (size_t c = 0; c < 3; ++c)
        wrong += image[p * 3 + c] != static_cast<uint8_t>((c * 1024 + p) * 5 + c + record);
    CHECK(wrong == 0);
  }
  std::filesystem::remove(inner / "data_batch_4.bin");
  CHECK_THAT(error_of([&] { load_dataset("cifar10", inner, Split::kTrain); }),
             Contains("data_batch_4.bin") && Contains("No such file"));
}

TEST_CASE("broken CIFAR-10 files are refused by one sentence", "[data]") {
  const TempFolder folder;
  const auto file = folder / "test_batch.bin";
  const auto error = [&] {
    return error_of([&] { load_dataset("cifar10", folder.path(), Split::kTest); });
  };
  CHECK_THAT(error(), Contains("neither") && Contains("test_batch.bin"));
  Bytes bytes = cifar_batch(0);
  spit(file, bytes);
  CHECK(load_dataset("cifar10", folder.path(), Split::kTest).count == 10000);
  bytes[4321 * kCifarRecord] = 10;
  spit(file, bytes);
  CHECK_THAT(error(), Contains("test_batch.bin") && Contains("image 4321 has label 10"));
  for (const size_t size : {size_t{0}, size_t{1}, 5000 * kCifarRecord, bytes.size() - 1}) {
    std::filesystem::resize_file(file, size);
    CHECK_THAT(error(), Contains("test_batch.bin") && Contains("truncated"));
  }
  std::filesystem::resize_file(file, bytes.size() + 1);
  CHECK_THAT(error(), Contains("test_batch.bin") && Contains("too long"));
  std::filesystem::resize_file(file, 100 * bytes.size());
  CHECK_THAT(error(), Contains("test_batch.bin") && Contains("at most"));
}

TEST_CASE("CIFAR-100's records have two labels, of which the fine one counts", "[data]") {
  const TempFolder folder;
  const auto file = folder / "test.bin";
  const auto load = [&] { return load_dataset("cifar100", folder.path(), Split::kTest); };
  CHECK_THAT(error_of(load), Contains("neither") && Contains("cifar-100-binary"));
  constexpr size_t kRecord = 2 + 3072;
  Bytes bytes(10000 * kRecord);
  for (size_t i = 0; i < 10000; ++i) {
    uint8_t* record = bytes.data() + i * kRecord;
    record[0] = static_cast<uint8_t>(i % 20);
    record[1] = static_cast<uint8_t>(i * 7 % 100);
    for (size_t p = 0; p < 3072; ++p) record[2 + p] = static_cast<uint8_t>(p * 5 + p / 1024 + i);
  }
  spit(file, bytes);
  const Dataset data = load();
  CHECK(data.count == 10000);
  CHECK((data.height == 32 && data.width == 32 && data.channels == 3));
  REQUIRE(data.class_names.size() == 100);
  CHECK(std::is_sorted(data.class_names.begin(), data.class_names.end()));
  CHECK((data.class_names[0] == "apple" && data.class_names[99] == "worm"));
  for (const int64_t i : {0, 19, 77, 9999}) {
    CHECK(data.labels[static_cast<size_t>(i)] == i * 7 % 100);
    const std::span<const uint8_t> image = data.image(i);
    size_t wrong = 0;
    for (size_t p = 0; p < 1024; ++p)
      for (size_t c = 0; c < 3; ++c)
        wrong += image[p * 3 + c] != static_cast<uint8_t>((c * 1024 + p) * 5 + c + size_t(i));
    CHECK(wrong == 0);
  }

  bytes[123 * kRecord + 1] = 100;
  spit(file, bytes);
  CHECK_THAT(error_of(load), Contains("test.bin") && Contains("image 123 has label 100"));
  std::filesystem::resize_file(file, bytes.size() - 1);
  CHECK_THAT(error_of(load), Contains("test.bin") && Contains("truncated"));
  // As many bytes as training images have, in a test set's place.
  std::filesystem::resize_file(file, 5 * bytes.size());
  CHECK_THAT(error_of(load), Contains("test.bin") && Contains("too long"));

  bytes[123 * kRecord + 1] = 99;
  std::filesystem::create_directory(folder / "cifar-100-binary");
  std::ofstream train(folder / "cifar-100-binary" / "train.bin", std::ios::binary);
  for (int part = 0; part < 5; ++part)
    train.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
  train.close();
  const Dataset all = load_dataset("cifar100", folder.path(), Split::kTrain);
  CHECK(all.count == 50000);
  CHECK(all.labels[40123] == 99);
}

TEST_CASE("an unknown data set names the known ones, nearest first", "[data]") {
  const TempFolder folder;
  const auto error = [&](const char* name) {
    return error_of([&] { load_dataset(name, folder.path(), Split::kTrain); });
  };
  CHECK_THAT(error("cifar-10"), Contains("'cifar-10'; known are cifar10, "));
  CHECK_THAT(error("minst"), Contains("known are mnist, "));
  CHECK_THAT(error("fashion_mnist"), Contains("known are fashion-mnist, "));
}
