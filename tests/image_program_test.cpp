// The program on folders and shards of images, from end to end.
#include <catch2/catch.hpp>

#include "engine/files.h"
#include "kernels/philox.h"
#include "tests/image_files.h"
#include "tests/program.h"
#include "tests/tar_files.h"
#include "tools/evaluation_file.h"
#include "tools/run_folder.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

// Noise with a bright half, above or below by the class; JPEG and PNG by turns, of many sizes.
Bytes half_bright(int i, bool below) {
  const int height = 24 + i % 5, width = 24 + i % 7;
  const RandomKey key{uint64_t(below), Purpose::kTest, 0};
  Bytes pixels;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width * 3; ++x) {
      const bool bright = (2 * y >= height) == below;
      pixels.push_back(
          uint8_t(key.word(uint64_t(i), uint32_t(y * width * 3 + x)) % 60 + (bright ? 180 : 10)));
    }
  return i % 2 == 0 ? png_file(height, width, pixels) : jpeg_file(height, width, pixels);
}

void write_folder(const fs::path& folder, int count, int first) {
  for (const bool below : {false, true}) {
    const fs::path of_class = folder / (below ? "below" : "above");
    fs::create_directories(of_class);
    for (int i = first; i < first + count; ++i)
      spit(of_class / (std::to_string(i) + (i % 2 == 0 ? ".png" : ".jpg")), half_bright(i, below));
  }
}

Outcome program(const TempFolder& folder, const std::string& arguments) {
  return run_program(arguments, "XDG_CACHE_HOME=" + (folder / "cache").string());
}

Outcome train(const TempFolder& folder, const std::string& run, const std::string& flags = "") {
  return program(folder, "train " + (folder / "r.toml").string() + " --data-dir " +
                             (folder / "images").string() + " --output " + (folder / run).string() +
                             " " + flags);
}

void write_recipe(const TempFolder& folder) {
  write_text_atomic(folder / "r.toml", R"(
dataset = "image-folder"
image-size = 16
augment = "random-resized-crop"
width = 4
eps = "8/255"
epochs = 4
lr = 0.02
batch-size = 12
hold-out = 12
probe-every = 0
val-attack-steps = 2
device = "cpu"
threads = 2
)");
}

}  // namespace

TEST_CASE("a folder of images is trained on and evaluated", "[program]") {
  const TempFolder folder;
  write_recipe(folder);
  write_folder(folder / "images" / "train", 36, 0);
  write_folder(folder / "images" / "val", 12, 36);
  // Empty, and not what its name says.
  spit(folder / "images" / "train" / "above" / "4.png", {});
  spit(folder / "images" / "val" / "below" / "40.png", {'n', 'o'});

  const Outcome one = train(folder, "one", "--workers 1");
  INFO(one.output);
  REQUIRE(one.exit_code == 0);
  CHECK_THAT(one.output, Contains("above/4.png' is empty"));
  for (const char* workers : {"2", "4"}) {
    const Outcome more = train(folder, "more", std::string("--overwrite --workers ") + workers);
    REQUIRE(more.exit_code == 0);
    for (const char* file : {"last.safetensors", "best.safetensors"})
      CHECK(slurp(folder / "more" / file) == slurp(folder / "one" / file));
  }

  const Outcome evaluated =
      program(folder, "evaluate " + (folder / "one").string() +
                          " --device cpu --threads 2 --attack-steps 2 --restarts 1 --eps 0.01");
  INFO(evaluated.output);
  REQUIRE(evaluated.exit_code == 0);
  CHECK_THAT(evaluated.output, Contains("below/40.png' is neither a JPEG nor a PNG"));
  const Evaluation e = read_evaluation(folder / "one" / kEvaluationFile);
  CHECK(e.n == 24);
  CHECK(e.class_names == std::vector<std::string>{"above", "below"});
  CHECK((e.height == 16 && e.image_width == 16 && e.channels == 3));
  CHECK(e.clean_accuracy > 0.8);
  // Sorted by class; that of the broken image is that of its neighbour.
  for (size_t i = 0; i < 24; ++i) CHECK(e.labels[i] == int32_t(i / 12));
}

TEST_CASE("shards of images are trained on and evaluated", "[program]") {
  const TempFolder folder;
  write_recipe(folder);
  fs::create_directories(folder / "images");
  const auto write_shard = [&](const std::string& name, int count, int first) {
    std::vector<Member> members;
    for (int i = first; i < first + count; ++i) {
      const std::string key = "sample" + std::to_string(i);
      members.push_back({key + ".jpg", half_bright(i, i / 2 % 2 == 0)});
      members.push_back({key + ".cls", {uint8_t(i / 2 % 2 == 0 ? '1' : '0')}});
    }
    spit(folder / "images" / name, tar(members));
  };
  write_shard("train-0.tar", 40, 0);
  write_shard("train-1.tar", 32, 40);
  write_shard("val-0.tar", 20, 72);
  const Outcome trained = train(folder, "run", "--dataset webdataset");
  INFO(trained.output);
  REQUIRE(trained.exit_code == 0);
  const Outcome evaluated =
      program(folder, "evaluate " + (folder / "run").string() +
                          " --device cpu --threads 2 --attack-steps 2 --restarts 1 --eps 0.01");
  INFO(evaluated.output);
  REQUIRE(evaluated.exit_code == 0);
  const Evaluation e = read_evaluation(folder / "run" / kEvaluationFile);
  CHECK(e.n == 20);
  for (int i = 0; i < 20; ++i) CHECK(e.labels[size_t(i)] == int((72 + i) / 2 % 2 == 0));
  CHECK(e.clean_accuracy > 0.8);
}

TEST_CASE("crops at random are for images in files", "[program]") {
  const TempFolder folder;
  write_recipe(folder);
  check_complaint(train(folder, "run", "--dataset mnist"), 1,
                  "random-resized-crop is for images in files");
  check_complaint(train(folder, "run"), 1, "is not a folder");
}
