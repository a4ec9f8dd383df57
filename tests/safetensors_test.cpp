// Safetensors files: whole, foreign and damaged in every way, and atomic writing that loses
// nothing.
#include "engine/safetensors.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>

#include "engine/files.h"
#include "tests/temp_folder.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

const std::map<std::string, std::string> kNotes{{"model", "cnn_small"},
                                                {"epoch", "3 \"of\" 8 äöü"}};

// Owns the values that the arrays point to.
struct Example {
  std::vector<float> weight{1.5f, -2.0f, 3.25f, 0.0f, -0.0f, 1e-30f};
  std::vector<double> norm{0.1, 1e300};
  std::vector<uint16_t> half{0x3f80, 0xc000, 0x7f80};
  std::vector<int64_t> step{-1234567890123};
  std::vector<uint8_t> flags{0, 1, 255};

  std::vector<NamedArray> arrays() const {
    return {{"flags", "U8", {3}, std::as_bytes(std::span(flags))},
            {"conv.weight", "F32", {2, 3}, std::as_bytes(std::span(weight))},
            {"half", "BF16", {3, 1}, std::as_bytes(std::span(half))},
            {"empty", "F32", {0, 7}, {}},
            {"step", "I64", {}, std::as_bytes(std::span(step))},
            {"norm", "F64", {2}, std::as_bytes(std::span(norm))}};
  }
};

Bytes file_bytes(const std::string& header, const Bytes& data) {
  const uint64_t length = header.size();
  Bytes bytes(8 + header.size() + data.size());
  std::memcpy(bytes.data(), &length, 8);
  std::copy(header.begin(), header.end(), bytes.begin() + 8);
  std::copy(data.begin(), data.end(), bytes.end() - static_cast<int64_t>(data.size()));
  return bytes;
}

std::string load_error(const std::filesystem::path& path) {
  return error_of([&] { load_safetensors(path); });
}

// Loads a file of this header and data.
std::string header_error(const TempFolder& folder, const std::string& header, size_t data_bytes) {
  spit(folder / "made.safetensors", file_bytes(header, Bytes(data_bytes)));
  return load_error(folder / "made.safetensors");
}

// While it lives, this process cannot write files beyond `bytes`: a full disk for one file.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("safetensors come back as they were saved", "[files]") {
  const TempFolder folder;
  const Example example;
  const auto path = folder / "a.safetensors";
  save_safetensors(path, example.arrays(), kNotes);
  SafetensorsFile loaded = load_safetensors(path);
  const SafetensorsFile file = std::move(loaded);  // the arrays stay valid when the file moves
  CHECK(file.checked);
  CHECK(file.metadata == kNotes);
  CHECK(file.arrays.size() == 6);
  for (const NamedArray& saved : example.arrays()) {
    const NamedArray& array = file.at(saved.name);
    CHECK(array.dtype == saved.dtype);
    CHECK(array.shape == saved.shape);
    CHECK(
        std::equal(array.bytes.begin(), array.bytes.end(), saved.bytes.begin(), saved.bytes.end()));
  }
  CHECK(file.contains("step"));
  CHECK_FALSE(file.contains("steps"));
  CHECK_THAT(error_of([&] { file.at("steps"); }), Contains("a.safetensors") && Contains("'steps'"));
  CHECK(folder.entries() == 1);

  save_safetensors(path, {}, {});
  CHECK(load_safetensors(path).arrays.empty());
}

TEST_CASE("safetensors are laid out as the format says, and the same every time", "[files]") {
  const TempFolder folder;
  const Example example;
  std::vector<NamedArray> arrays = example.arrays();
  save_safetensors(folder / "a", arrays, kNotes);
  std::reverse(arrays.begin(), arrays.end());
  save_safetensors(folder / "b", arrays, kNotes);
  const Bytes bytes = slurp(folder / "a");
  CHECK(bytes == slurp(folder / "b"));

  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  const std::string header(bytes.begin() + 8, bytes.begin() + 8 + static_cast<int64_t>(length));
  CHECK(header.front() == '{');
  CHECK_THAT(header, Contains(R"("norm":{"data_offsets":[0,16],"dtype":"F64","shape":[2]})"));
  CHECK_THAT(header, Contains(R"("step":{"data_offsets":[16,24],"dtype":"I64","shape":[]})"));
  CHECK_THAT(header, Contains(R"("conv.weight":{"data_offsets":[24,48],"dtype":"F32")"));
  CHECK_THAT(header, Contains(R"("half":{"data_offsets":[48,54],"dtype":"BF16")"));
  CHECK_THAT(header, Contains(R"("flags":{"data_offsets":[54,57],"dtype":"U8")"));
  CHECK(bytes.size() == 8 + length + 57);
  const SafetensorsFile file = load_safetensors(folder / "a");
  CHECK(file.at("norm").bytes.data() == std::as_bytes(std::span(file.content)).data() + 8 + length);
}

TEST_CASE("safetensors of other tools load without a checksum", "[files]") {
  const TempFolder folder;
  const auto path = folder / "foreign";
  spit(path, file_bytes(R"({"b":{"dtype":"U8","shape":[2,1],"data_offsets":[1,3]}, )"
                        R"("__metadata__":{"format":"pt"},)"
                        R"("a":{"data_offsets":[0,1],"shape":[],"dtype":"U8"}}   )",
                        {7, 8, 9}));
  const SafetensorsFile file = load_safetensors(path);
  CHECK_FALSE(file.checked);
  CHECK(file.metadata == std::map<std::string, std::string>{{"format", "pt"}});
  CHECK(file.arrays[0].name == "a");
  CHECK(file.at("b").shape == std::vector<int64_t>{2, 1});
  CHECK(file.at("b").bytes[1] == std::byte{9});
}

TEST_CASE("a bit flipped anywhere in a safetensors file is found", "[files]") {
  const TempFolder folder;
  const Example example;
  save_safetensors(folder / "whole", example.arrays(), kNotes);
  const Bytes whole = slurp(folder / "whole");
  const auto path = folder / "flipped.safetensors";
  for (size_t i = 0; i < whole.size(); ++i)
    for (unsigned bit = 0; bit < 8; ++bit) {
      Bytes flipped = whole;
      flipped[i] ^= static_cast<uint8_t>(1u << bit);
      spit(path, flipped);
      INFO("byte " << i << " of " << whole.size() << ", bit " << bit);
      CHECK_THAT(load_error(path), Contains("flipped.safetensors"));
    }
}

TEST_CASE("truncated and lengthened safetensors files are refused", "[files]") {
  const TempFolder folder;
  const Example example;
  const auto path = folder / "cut.safetensors";
  save_safetensors(path, example.arrays(), kNotes);
  Bytes bytes = slurp(path);
  bytes.push_back(0);
  spit(path, bytes);
  CHECK_THAT(load_error(path), Contains("cut.safetensors") && Contains("1 bytes follow"));
  bytes.pop_back();
  while (!bytes.empty()) {
    bytes.pop_back();
    spit(path, bytes);
    CHECK_THAT(load_error(path),
               Contains("cut.safetensors") && (Contains("truncated") || Contains("damaged")));
  }
  CHECK_THAT(load_error(folder / "absent"), Contains("absent") && Contains("No such file"));
  CHECK_THAT(load_error(folder.path()), Contains("not a regular file"));
}

TEST_CASE("safetensors headers that lie are refused", "[files]") {
  const TempFolder folder;
  const auto error = [&](const std::string& header) { return header_error(folder, header, 8); };
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"dtype":"{}","shape":{},"data_offsets":{}}})", dtype, shape, offsets);
  };
  const auto one = [&](const char* dtype, const char* shape, const char* offsets) {
    return error(R"({"x":)" + entry(dtype, shape, offsets) + "}");
  };
  REQUIRE(one("F32", "[2]", "[0,8]").empty());

  SECTION("sizes") {
    CHECK_THAT(one("F32", "[3]", "[0,8]"), Contains("(3)") && Contains("cannot take 8 bytes"));
    CHECK_THAT(one("F32", "[4611686018427387904,4]", "[0,0]"), Contains("cannot take"));
    CHECK_THAT(one("U8", "[4294967296,4294967296,8]", "[0,8]"), Contains("cannot take"));
    CHECK_THAT(one("F32", "[3]", "[0,12]"), Contains("bytes 0 to 12 of 8"));
    CHECK_THAT(one("F32", "[2]", "[8,0]"), Contains("bytes 8 to 0"));
    CHECK_THAT(one("F32", "[2]", "[18446744073709551608,0]"), Contains("'x'"));
    CHECK_THAT(one("F32", "[1]", "[0,4]"), Contains("4 bytes follow"));
    CHECK_THAT(one("F32", "[1]", "[4,8]"), Contains("a hole"));
  }
  SECTION("types") {
    CHECK_THAT(one("F8", "[4]", "[0,8]"), Contains("dtype 'F8'"));
    for (const char* shape : {"[-2]", "[2.0]", "\"2\"", "[[2]]", "[null]", "2", "{}", "[true]"})
      CHECK_THAT(one("F32", shape, "[0,8]"), Contains("made.safetensors") && Contains("damaged"));
    for (const char* offsets : {"[0]", "[0,8,8]", "8", "[0,-8]", "[0,\"8\"]"})
      CHECK_THAT(one("F32", "[2]", offsets), Contains("'x' is not made of"));
    CHECK_THAT(error(R"({"x":8})"), Contains("'x' is not made of"));
    CHECK_THAT(error(R"({"x":{"dtype":"F32","shape":[2]}})"), Contains("'x' is not made of"));
    CHECK_THAT(error(R"({"x":{"dtype":1e999,"shape":[2],"data_offsets":[0,8]}})"),
               Contains("out of range"));
    CHECK_THAT(error(R"({"__metadata__":[]})"), Contains("no JSON object"));
    CHECK_THAT(error(R"({"__metadata__":{"a":1}})"), Contains("'a' is not a text"));
  }
  SECTION("arrays that share bytes or names") {
    const std::string a = entry("U8", "[6]", "[0,6]"), b = entry("U8", "[4]", "[4,8]");
    CHECK_THAT(error(R"({"a":)" + a + R"(,"b":)" + b + "}"), Contains("'b' overlaps"));
    const std::string x = R"("x":)" + entry("F32", "[2]", "[0,8]");
    CHECK_THAT(error("{" + x + "," + x + "}"), Contains("'x' twice"));
    CHECK_THAT(error(R"({"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})"),
               Contains("'dtype' twice"));
  }
  SECTION("texts") {
    const std::string good = R"({"x":)" + entry("F32", "[2]", "[0,8]") + "}";
    for (const std::string& text :
         {std::string(), std::string("[]"), std::string("{"), std::string("    "), "\t" + good,
          good + "\n", good + std::string(8, '\0'), good + "}", std::string("{\"\xff\":1}"),
          std::string("null"), std::string(R"({"a":1,})")})
      CHECK_THAT(error(text), Contains("made.safetensors"));
    const std::string deep(1'000'000, '[');
    CHECK_THAT(error(R"({"x":)" + deep + "}"), Contains("nested too deeply"));
    CHECK_THAT(error(R"({"x":{"shape":[[1]]}})"), Contains("made.safetensors"));
  }
  SECTION("a header longer than the file, or than the format allows") {
    for (const uint64_t length : {uint64_t{9}, uint64_t{100'000'001}, UINT64_MAX, UINT64_MAX - 7}) {
      Bytes bytes(16, ' ');
      std::memcpy(bytes.data(), &length, 8);
      spit(folder / "made.safetensors", bytes);
      CHECK_THAT(load_error(folder / "made.safetensors"), Contains(fmt::format("{}", length)));
    }
  }
  SECTION("a file of ours whose checksum is gone") {
    CHECK_THAT(error(R"({"__metadata__":{"ringfort.format":"1"},"x":)" +
                     entry("F32", "[2]", "[0,8]") + "}"),
               Contains("checksum is missing"));
  }
}

TEST_CASE("what cannot be saved is refused before anything is written", "[files]") {
  const TempFolder folder;
  const auto path = folder / "a.safetensors";
  const Example example;
  save_safetensors(path, example.arrays(), kNotes);
  const Bytes before = slurp(path);
  const auto bytes = std::as_bytes(std::span(example.weight));
  const auto error = [&](std::vector<NamedArray> arrays,
                         const std::map<std::string, std::string>& metadata) {
    return error_of([&] { save_safetensors(path, arrays, metadata); });
  };
  CHECK_THAT(error({{"w", "F32", {7}, bytes}}, {}), Contains("'w'") && Contains("24 bytes"));
  CHECK_THAT(error({{"w", "F32", {-2, -3}, bytes}}, {}), Contains("(-2, -3)"));
  CHECK_THAT(error({{"w", "F8", {12}, bytes}}, {}), Contains("dtype 'F8'"));
  CHECK_THAT(error({{"", "F32", {6}, bytes}}, {}), Contains("not a possible name"));
  CHECK_THAT(error({{"__metadata__", "F32", {6}, bytes}}, {}), Contains("not a possible name"));
  CHECK_THAT(error({{"w", "F32", {6}, bytes}, {"w", "F32", {6}, bytes}}, {}),
             Contains("two arrays are named 'w'"));
  CHECK_THAT(error({{"\xff", "F32", {6}, bytes}}, {}), Contains("UTF-8"));
  CHECK_THAT(error({}, {{"a", "\xc3"}}), Contains("UTF-8"));
  CHECK_THAT(error({}, {{"ringfort.checksum", "0"}}), Contains("reserved"));
  CHECK(slurp(path) == before);
  CHECK(folder.entries() == 1);
}

TEST_CASE("a write that fails half-way loses nothing", "[files]") {
  const TempFolder folder;
  const auto path = folder / "a.safetensors";
  const Example example;
  save_safetensors(path, example.arrays(), kNotes);
  const Bytes before = slurp(path);
  const std::vector<uint8_t> large(1 << 20, 3);
  const std::vector<NamedArray> arrays{{"large", "U8", {1 << 20}, std::as_bytes(std::span(large))}};
  for (const rlim_t limit : {0, 4, 100, 1 << 16, 1 << 20}) {
    std::string sentence;
    {
      const FileSizeLimit full_disk(limit);
      sentence = error_of([&] { save_safetensors(path, arrays, {}); });
    }
    CHECK_THAT(sentence, Contains("a.safetensors") && Contains("File too large"));
    CHECK(slurp(path) == before);
    CHECK(folder.entries() == 1);
  }
  save_safetensors(path, arrays, {});
  CHECK(load_safetensors(path).at("large").bytes.size() == 1 << 20);
}

TEST_CASE("files are read whole and replaced whole", "[files]") {
  const TempFolder folder;
  const auto path = folder / "notes.toml";
  write_text_atomic(path, "first\n");
  write_text_atomic(path, "second, longer\n");
  CHECK(read_text(path) == "second, longer\n");
  write_text_atomic(path, "");
  CHECK(read_file(path).empty());
  CHECK(folder.entries() == 1);
  // As readable as any other new file: not the 0600 of usual temporary files.
  spit(folder / "other", {});
  CHECK(std::filesystem::status(path).permissions() ==
        std::filesystem::status(folder / "other").permissions());

  CHECK_THAT(error_of([&] { write_text_atomic(folder / "absent" / "file", "x"); }),
             Contains("No such file") && Contains("folder exists"));
  std::filesystem::create_directory(folder / "sub");
  CHECK_THAT(error_of([&] { write_text_atomic(folder / "sub", "x"); }),
             Contains("sub") && Contains("not a regular file"));
  const auto pipe = folder / "pipe", loop = folder / "loop";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THAT(error_of([&] { write_text_atomic(pipe, "x"); }), Contains("not a regular file"));
  CHECK(std::filesystem::is_fifo(pipe));
  std::filesystem::create_symlink("loop", loop);
  CHECK_THAT(error_of([&] { write_text_atomic(loop, "x"); }),
             Contains("loop") && Contains("name another file"));
  std::filesystem::remove(pipe);
  std::filesystem::remove(loop);
  CHECK_THAT(error_of([&] { write_text_atomic(folder / "sub/", "x"); }),
             Contains("names a folder"));
  CHECK_THAT(error_of([&] { read_file(folder / "other", 0); }), Catch::Equals(""));
  write_text_atomic(path, "12345");
  CHECK_THAT(error_of([&] { read_file(path, 4); }), Contains("5 bytes, at most 4"));
  CHECK(folder.entries() == 3);
}
