// The corpus of the fuzzers, replayed by every build: files as their writers make them, and those
// that once did harm.
#include <catch2/catch.hpp>
#include <set>

#include "engine/files.h"
#include "engine/safetensors.h"
#include "models/checkpoint.h"
#include "tests/fuzz/targets.h"
#include "tests/idx_files.h"
#include "tests/image_files.h"
#include "tests/tar_files.h"
#include "tools/recipe_file.h"

using namespace ringfort;
using namespace ringfort::test;

namespace {

namespace fs = std::filesystem;

const fs::path kCorpus = RINGFORT_FUZZ_CORPUS;

void seed(const std::string& target, const std::string& name, const Bytes& bytes) {
  fs::create_directories(kCorpus / target);
  spit(kCorpus / target / name, bytes);
}

Bytes text(std::string_view text) { return {text.begin(), text.end()}; }

void seed_safetensors() {
  const std::vector<float> numbers{1, 2, 3, 4, 5, 6};
  const auto bytes = std::as_bytes(std::span(numbers));
  const std::vector<NamedArray> arrays{{"conv1.weight", "F32", {2, 3}, bytes},
                                       {"bn.mean", "F64", {3}, bytes},
                                       {"bn.count", "I64", {}, bytes.first(8)},
                                       {"empty", "U8", {0, 4}, {}},
                                       {"half", "BF16", {12}, bytes}};
  save_safetensors(kCorpus / "safetensors" / "all-dtypes", arrays, {{"note", "of a seed"}});
  save_safetensors(kCorpus / "safetensors" / "no-array", {}, {});
  const std::string header = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  Bytes foreign{static_cast<uint8_t>(header.size()), 0, 0, 0, 0, 0, 0, 0};
  for (const char c : header) foreign.push_back(static_cast<uint8_t>(c));
  foreign.insert(foreign.end(), 4, 0);
  seed("safetensors", "of-other-tools", foreign);
}

void seed_weights() {
  const ModelSpec spec{.name = "cnn_small",
                       .width = 1,
                       .height = 4,
                       .image_width = 4,
                       .channels = 1,
                       .mean = {0.5f},
                       .std = {0.25f}};
  const auto model = make_model(spec);
  save_checkpoint(kCorpus / "weights" / "checkpoint", *model, {});
  const std::vector<float> numbers(4, 1);
  const auto bytes = std::as_bytes(std::span(numbers));
  std::vector<NamedArray> arrays;
  for (const char* name : {"module.1.conv1.weight", "module.1.bn1.running_var", "module.0.mean",
                           "module.0.std", "module.1.fc.bias", "sub_block1.layer.0.conv1.weight"})
    arrays.push_back({name, "F32", {1, 4}, bytes});
  arrays.push_back({"n_averaged", "I64", {}, bytes.first(8)});
  save_safetensors(kCorpus / "weights" / "foreign", arrays, {});
}

void seed_tar() {
  const std::vector<Member> members{{"a/0.png", Bytes(70, 1)}, {"a/0.cls", text("3\n")},
                                    {"a/1.cls", text("12")},   {"a/1.jpg", Bytes(5, 2)},
                                    {"a/1.json", text("{}")},  {"folder", {}, AE_IFDIR}};
  seed("tar", "ustar", tar(members));
  seed("tar", "gnu", tar(members, ARCHIVE_FORMAT_TAR_GNUTAR));
  const std::string long_name(150, 'x');
  std::vector<Member> long_members{{long_name + "/a.png", Bytes(3, 1)}};
  long_members.push_back({long_name + "/a.cls", text("0")});
  seed("tar", "pax", tar(long_members, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE));
  seed("tar", "link", tar({{"0.png", {}, AE_IFLNK}, {"0.cls", text("0")}}));
}

void seed_images() {
  const Bytes rgb = picture(17, 23, 3);
  seed("jpeg", "rgb", jpeg_file(17, 23, rgb));
  seed("jpeg", "progressive", jpeg_file(17, 23, rgb, {.progressive = true}));
  seed("jpeg", "full-chroma", jpeg_file(17, 23, rgb, {.h_sampling = 1, .v_sampling = 1}));
  seed("jpeg", "grey", jpeg_file(17, 23, picture(17, 23, 1), {.components = 1}));
  seed("jpeg", "cmyk", jpeg_file(17, 23, picture(17, 23, 4), {.components = 4}));
  seed("jpeg", "ink", jpeg_file(9, 8, picture(9, 8, 4), {.components = 4, .adobe = false}));
  seed("png", "rgb", png_file(9, 11, picture(9, 11, 3)));
  seed("png", "interlaced", png_file(9, 11, picture(9, 11, 3), {.interlaced = true}));
  seed("png", "grey-16",
       png_file(9, 11, picture(9, 11, 2), {.color_type = PNG_COLOR_TYPE_GRAY, .bits = 16}));
  seed("png", "rgba", png_file(9, 11, picture(9, 11, 4), {.color_type = PNG_COLOR_TYPE_RGBA}));
  seed("png", "palette",
       png_file(9, 8, picture(9, 4, 1), {.color_type = PNG_COLOR_TYPE_PALETTE, .bits = 4}));
  seed("png", "bits",
       png_file(9, 8, picture(9, 1, 1), {.color_type = PNG_COLOR_TYPE_GRAY, .bits = 1}));
}

void seed_idx_and_gzip() {
  const Bytes images = idx_bytes({2, 28, 28}, picture(2 * 28, 28, 1));
  seed("idx", "images", images);
  seed("idx", "labels", idx_bytes({2}, {3, 9}));
  seed("gzip", "images", gzip(images));
  seed("gzip", "nothing", gzip({}));
}

void seed_recipes() {
  for (const auto& entry :
       fs::directory_iterator(kCorpus.parent_path().parent_path().parent_path() / "recipes"))
    seed("recipe", entry.path().filename().string(), slurp(entry.path()));
  seed("recipe", "resolved.toml", text(to_toml(Recipe{})));
  seed("recipe", "escapes.toml", text("data-dir = \"a \\\"b\\\" \\\\ \\u00e4\"\neps = '4/255'\n"));
}

}  // namespace

TEST_CASE("every file of the fuzzers' corpus is read or refused", "[fuzz]") {
  std::set<std::string> folders;
  for (const auto& entry : fs::directory_iterator(kCorpus))
    folders.insert(entry.path().filename().string());
  for (const FuzzTarget& target : fuzz_targets()) {
    folders.erase(std::string(target.name));
    size_t files = 0;
    for (const auto& entry : fs::directory_iterator(kCorpus / target.name)) {
      INFO(entry.path());
      target.run(slurp(entry.path()));  // ends the process where a promise is not kept
      ++files;
    }
    CHECK(files > 0);
  }
  CHECK(folders.empty());  // those of no target
}

// Writes the files that are no findings anew: build/ringfort-tests "[write-fuzz-corpus]"
TEST_CASE("the seeds of the fuzzers' corpus are written", "[.][write-fuzz-corpus]") {
  for (const FuzzTarget& target : fuzz_targets()) fs::create_directories(kCorpus / target.name);
  seed_safetensors();
  seed_weights();
  seed_tar();
  seed_images();
  seed_idx_and_gzip();
  seed_recipes();
  CHECK(fs::exists(kCorpus / "recipe" / "resolved.toml"));
}
