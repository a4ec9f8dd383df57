// Folders of images and tar shards: which samples there are, which class each has, and what is
// refused.
#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "engine/data/dataset.h"
#include "engine/data/formats.h"
#include "engine/data/tar_index.h"
#include "engine/files.h"
#include "tests/image_files.h"
#include "tests/tar_files.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

Bytes text_bytes(std::string_view text) { return {text.begin(), text.end()}; }

// A file whose content is its own name: opening a data set does not decode.
void put(const TempFolder& folder, const std::string& path) {
  fs::create_directories((folder / path).parent_path());
  spit(folder / path, text_bytes(path));
}

std::string content(const Dataset& data, int64_t i) {
  const std::vector<uint8_t> bytes = data.encoded->read(i);
  return {bytes.begin(), bytes.end()};
}

// Members whose image holds its key, of a length that changes.
std::vector<Member> pairs(const std::string& prefix, int count, int first_label = 0) {
  std::vector<Member> members;
  for (int i = 0; i < count; ++i) {
    const std::string key = prefix + std::to_string(i);
    Bytes bytes = text_bytes(key);
    bytes.resize(bytes.size() + size_t(i) * 300, uint8_t(i));
    members.push_back({key + (i % 2 == 0 ? ".jpg" : ".PNG"), bytes});
    members.push_back({key + ".cls", text_bytes(std::to_string(first_label + i % 3) + "\n")});
  }
  return members;
}

std::string shard_error(const std::vector<Member>& members) {
  const TempFolder folder;
  spit(folder / "a.tar", tar(members));
  return error_of([&] { index_tar(folder / "a.tar"); });
}

}  // namespace

TEST_CASE("a folder of images: classes are folders, in the order of their names", "[data]") {
  const TempFolder folder;
  for (const char* path : {"train/zebra/b.jpg", "train/zebra/a.png", "train/ant/deep/er/x.JPEG",
                           "train/ant/notes.txt", "train/ant/.hidden.jpg", "train/.git/a.jpg",
                           "train/cat/a.jpg", "val/zebra/v.jpg", "val/ant/w.jpg", "train/readme"})
    put(folder, path);
  const Dataset train = load_dataset("image-folder", folder.path(), Split::kTrain, 32);
  CHECK(train.class_names == std::vector<std::string>{"ant", "cat", "zebra"});
  REQUIRE(train.count == 4);
  CHECK(train.labels == std::vector<int32_t>{0, 1, 2, 2});
  CHECK((train.height == 32 && train.width == 32 && train.channels == 3));
  CHECK((train.mean.size() == 3 && train.std.size() == 3));
  const std::vector<std::string> expected = {"train/ant/deep/er/x.JPEG", "train/cat/a.jpg",
                                             "train/zebra/a.png", "train/zebra/b.jpg"};
  for (int64_t i = 0; i < 4; ++i) {
    CHECK(content(train, i) == expected[size_t(i)]);
    CHECK_THAT(train.encoded->name(i), Catch::EndsWith(expected[size_t(i)]));
  }
  // Test images number their classes as the training images do.
  const Dataset val = load_dataset("image-folder", folder.path(), Split::kTest);
  CHECK(val.class_names == train.class_names);
  CHECK(val.labels == std::vector<int32_t>{0, 2});
  CHECK(val.height == 224);
  CHECK_THAT(error_of([&] { train.image(0); }), Contains("decoded"));

  put(folder, "val/dog/d.jpg");
  CHECK_THAT(error_of([&] { load_dataset("image-folder", folder.path(), Split::kTest); }),
             Contains("val/dog") && Contains("training images do not have"));
  fs::remove_all(folder / "val");
  CHECK_THAT(error_of([&] { load_dataset("image-folder", folder.path(), Split::kTest); }),
             Contains("neither val nor test"));
  fs::remove(folder / "train/cat/a.jpg");
  CHECK_THAT(error_of([&] { load_dataset("image-folder", folder.path(), Split::kTrain); }),
             Contains("train/cat") && Contains("no image"));
  CHECK_THAT(error_of([&] { load_dataset("image-folder", folder / "train/ant", Split::kTrain); }),
             Contains("at least two classes"));
  CHECK_THAT(error_of([&] { load_dataset("image-folder", folder.path(), Split::kTrain, 5000); }),
             Contains("5000 x 5000"));
}

TEST_CASE("one folder of classes is split into training and test images, always alike", "[data]") {
  const TempFolder folder;
  for (int i = 0; i < 40; ++i)
    put(folder, std::string(i % 2 ? "a/" : "b/") + std::to_string(i) + ".jpg");
  const auto contents = [&](Split split) {
    const Dataset data = load_dataset("image-folder", folder.path(), split);
    std::vector<std::string> all;
    for (int64_t i = 0; i < data.count; ++i) {
      all.push_back(content(data, i));
      CHECK(data.class_names[size_t(data.labels[size_t(i)])] == all.back().substr(0, 1));
    }
    return all;
  };
  const std::vector<std::string> train = contents(Split::kTrain), test = contents(Split::kTest);
  CHECK((train.size() == 36 && test.size() == 4));
  std::set<std::string> all(train.begin(), train.end());
  all.insert(test.begin(), test.end());
  CHECK(all.size() == 40);
  CHECK(contents(Split::kTest) == test);
  CHECK(split_samples(2, Split::kTest).size() == 1);
  CHECK_THAT(error_of([&] { split_samples(1, Split::kTest); }), Contains("cannot be split"));
}

TEST_CASE("shards give the bytes of their images, in every kind of tar file", "[data]") {
  for (const int format :
       {ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FORMAT_TAR_GNUTAR, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE}) {
    const TempFolder folder;
    // Names beyond 100 letters have headers of their own in every kind.
    const std::string deep(90, 'd');
    std::vector<Member> members = pairs(deep + "/" + deep + "/k", 7);
    members.push_back({deep, {}, AE_IFDIR});
    members.push_back({"x/meta.json", text_bytes("{}")});
    members.push_back({"._k0.jpg", text_bytes("resource fork")});
    members.push_back({"y.cls", text_bytes(" 4 ")});  // a label may come first
    members.push_back({"y.seg.png", text_bytes("a mask")});
    members.push_back({"y.jpeg", text_bytes("y")});
    spit(folder / "train-0.tar", tar(members, format));
    spit(folder / "train-1.tar", tar(pairs("z", 2), format));
    spit(folder / "val-0.tar", tar(pairs("v", 1, 6), format));
    const Dataset data = load_dataset("webdataset", folder.path(), Split::kTrain, 64);
    REQUIRE(data.count == 10);
    CHECK(data.labels == std::vector<int32_t>{0, 1, 2, 0, 1, 2, 0, 4, 0, 1});
    // Up to the largest label, be it a test image's.
    CHECK(data.class_names == std::vector<std::string>{"0", "1", "2", "3", "4", "5", "6"});
    for (int64_t i = 0; i < 7; ++i) {
      CHECK(data.encoded->read(i) == members[size_t(2 * i)].bytes);
      CHECK_THAT(data.encoded->name(i),
                 Contains("train-0.tar: ") && Catch::EndsWith("/k" + std::to_string(i)));
    }
    CHECK(content(data, 7) == "y");
    CHECK_THAT(data.encoded->name(9), Contains("train-1.tar: z1"));
    CHECK(content(data, 9).substr(0, 2) == "z1");
    const Dataset val = load_dataset("webdataset", folder.path(), Split::kTest);
    CHECK(val.labels == std::vector<int32_t>{6});
    CHECK(val.class_names == data.class_names);

    write_text_atomic(folder / "classes.txt", "a\nb\nc\nd\ne\nf\ng\nh\n");
    CHECK(load_dataset("webdataset", folder.path(), Split::kTest).class_names.back() == "h");
    write_text_atomic(folder / "classes.txt", "a\nb\nc\nd\ne\nf");
    CHECK_THAT(error_of([&] { load_dataset("webdataset", folder.path(), Split::kTest); }),
               Contains("label 6") && Contains("names 6 classes"));
    write_text_atomic(folder / "classes.txt", "a\n\nb\n");
    CHECK_THAT(error_of([&] { load_dataset("webdataset", folder.path(), Split::kTest); }),
               Contains("classes.txt") && Contains("line 2 is empty"));
  }
}

TEST_CASE("shards of no split are split, missing ones are named", "[data]") {
  const TempFolder folder;
  CHECK_THAT(error_of([&] { load_dataset("webdataset", folder.path(), Split::kTrain); }),
             Contains("no shards"));
  spit(folder / "all.tar", tar(pairs("k", 20)));
  const Dataset train = load_dataset("webdataset", folder.path(), Split::kTrain);
  const Dataset test = load_dataset("webdataset", folder.path(), Split::kTest);
  CHECK((train.count == 18 && test.count == 2));
  CHECK(train.class_names == test.class_names);
  for (int64_t i = 0; i < 2; ++i)
    for (int64_t j = 0; j < 18; ++j) CHECK(test.encoded->name(i) != train.encoded->name(j));
  fs::rename(folder / "all.tar", folder / "train.tar");
  CHECK_THAT(error_of([&] { load_dataset("webdataset", folder.path(), Split::kTest); }),
             Contains("val*.tar or test*.tar"));
}

TEST_CASE("shards that are not what they should be are refused by name", "[data]") {
  const Bytes image = text_bytes("image"), label = text_bytes("1");
  CHECK(shard_error({{"../../etc/k.jpg", image}, {"../../etc/k.cls", label}}).empty());  // a name
  CHECK_THAT(shard_error({{"k.jpg", image}}), Contains("a.tar") && Contains("'k' has no label"));
  CHECK_THAT(shard_error({{"k.cls", label}}), Contains("'k' has no image"));
  CHECK_THAT(shard_error({{"k.jpg", image}, {"l.jpg", image}, {"l.cls", label}}),
             Contains("'k' has no label"));
  CHECK_THAT(shard_error({{"k.jpg", image}, {"k.png", image}, {"k.cls", label}}),
             Contains("two images"));
  CHECK_THAT(shard_error({{"k.jpg", image}, {"k.cls", label}, {"k.cls", label}}),
             Contains("two labels"));
  CHECK_THAT(shard_error({{"k.jpg", image},
                          {"k.cls", label},
                          {"l.jpg", image},
                          {"l.cls", label},
                          {"k.jpg", image},
                          {"k.cls", label}}),
             Contains("'k' comes twice"));
  CHECK_THAT(shard_error({{"k.json", image}}), Contains("no sample"));
  CHECK_THAT(shard_error({{"k.jpg", image, AE_IFLNK}, {"k.cls", label}}),
             Contains("k.jpg") && Contains("not a plain file"));
  for (const char* bad : {"", "-1", "1.5", "one", "1 2", "1048576", "99999999999999999999"})
    CHECK_THAT(shard_error({{"k.jpg", image}, {"k.cls", text_bytes(bad)}}),
               Contains("k.cls") && Contains("class number"));
  CHECK_THAT(shard_error({{"k.jpg", image}, {"k.cls", Bytes(33, '1')}}), Contains("33 bytes"));
  CHECK_THAT(shard_error({{"n\x01\n.jpg", image}}), Contains("'n?"
                                                             "?' has no label"));
}

TEST_CASE("broken tar files are refused", "[data]") {
  const TempFolder folder;
  const fs::path file = folder / "a.tar";
  const auto error = [&] { return error_of([&] { index_tar(file); }); };
  CHECK_THAT(error(), Contains("a.tar") && Contains("cannot be read"));
  const Bytes whole = tar(pairs("k", 6));
  spit(file, whole);
  REQUIRE(index_tar(file).size() == 6);
  // The end is two empty blocks, which may be missing; what is cut within a pair is told.
  for (size_t size = 1; size + 1024 < whole.size(); size += 257) {
    spit(file, Bytes(whole.begin(), whole.begin() + int64_t(size)));
    const std::string sentence = error();
    const bool whole_pairs = sentence.empty();
    INFO(size << " of " << whole.size() << ": " << sentence);
    if (whole_pairs)
      for (const TarSample& sample : index_tar(file))
        CHECK(sample.offset + sample.bytes <= int64_t(size));
    else
      CHECK_THAT(sentence, Contains("a.tar"));
  }
  Bytes flipped = whole;
  flipped[100] ^= 1;  // the header has a checksum
  spit(file, flipped);
  CHECK_THAT(error(), Contains("not an intact, uncompressed tar file"));
  spit(file, {0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3});
  CHECK_THAT(error(), Contains("uncompressed"));
  spit(file, {});
  CHECK_THAT(error(), Contains("a.tar"));

  // A size in the header that no image has: 8 GiB, in octal at offset 124, and the sum over it.
  Bytes huge = whole;
  const std::string size = "77777777777";
  int64_t sum = 0;
  std::copy(size.begin(), size.end(), huge.begin() + 124);
  std::fill(huge.begin() + 148, huge.begin() + 156, uint8_t{' '});
  for (size_t i = 0; i < 512; ++i) sum += huge[i];
  for (int digit = 0; digit < 6; ++digit)
    huge[size_t(148 + digit)] = uint8_t('0' + (sum >> (15 - 3 * digit) & 7));
  huge[154] = 0;
  spit(file, huge);
  CHECK_THAT(error(), Contains("k0.jpg") && Contains("at most"));

  // A shard that shrinks while it is used.
  spit(folder / "a.tar", whole);
  const Dataset data = load_dataset("webdataset", folder.path(), Split::kTrain);
  fs::resize_file(file, 600);
  CHECK_THAT(error_of([&] { data.encoded->read(data.count - 1); }), Contains("become shorter"));
}
