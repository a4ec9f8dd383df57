// The program under mpirun, on shards of JPEG images: a small resnet50 by DAT, compressed
// gradients, stopped and gone on with.
#include <catch2/catch.hpp>

#include "engine/files.h"
#include "kernels/philox.h"
#include "tests/image_files.h"
#include "tests/program.h"
#include "tests/tar_files.h"
#include "tools/commands.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

// Noise around a grey that says the class.
Bytes grey_jpeg(int i) {
  const RandomKey key{1, Purpose::kTest, 0};
  Bytes pixels;
  for (uint32_t p = 0; p < 40 * 40 * 3; ++p)
    pixels.push_back(uint8_t(key.word(uint64_t(i), p) % 80 + (i % 2 == 0 ? 20u : 150u)));
  return jpeg_file(40, 40, pixels);
}

void write_shard(const fs::path& path, int first, int count) {
  std::vector<Member> members;
  for (int i = first; i < first + count; ++i) {
    members.push_back({fmt::format("{:04}.jpg", i), grey_jpeg(i)});
    const std::string label = std::to_string(i % 2);
    members.push_back({fmt::format("{:04}.cls", i), Bytes(label.begin(), label.end())});
  }
  spit(path, tar(members));
}

class Job {
 public:
  Job() {
    fs::create_directories(folder_ / "images");
    write_shard(folder_ / "images" / "train-0.tar", 0, 25);
    write_shard(folder_ / "images" / "train-1.tar", 25, 16);  // shards need not be equal
    write_shard(folder_ / "images" / "val-0.tar", 41, 6);
    write_text_atomic(folder_ / "r.toml", R"(
dataset = "webdataset"
image-size = 32
model = "resnet50"
width = 4
augment = "random-resized-crop"
method = "dat"
attack-steps = 1
eps = "4/255"
epochs = 2
batch-size = 8
hold-out = 4
probe-every = 0
val-attack-steps = 1
opt = "lamb"
trust-all = true
lr = 0.01
sched = "constant"
compressor = "qsgd"
error-feedback = "true"
device = "cpu"
threads = 1
log-every = 1
)");
  }

  // fault: of rank 0, which alone writes (tests/faults/inject.cpp).
  Outcome train(int ranks, const std::string& run, const std::string& flags = "",
                const std::string& fault = "") {
    std::string faulty;
    if (!fault.empty())
      faulty = fmt::format(
          "-x LD_PRELOAD={} -x RINGFORT_FAULT_FOLDER={} -x RINGFORT_FAULT_LOG={} -x "
          "RINGFORT_FAULT='{}'",
          RINGFORT_FAULTS, path(run).string(), (folder_ / "log").string(), fault);
    return run_command(fmt::format(
        "XDG_CACHE_HOME={} OMP_WAIT_POLICY=passive timeout -k 1 300 {} --allow-run-as-root "
        "--oversubscribe --bind-to none -np {} {} {} train {} --data-dir {} --output {} {}",
        (folder_ / "cache").string(), RINGFORT_MPIRUN, ranks, faulty, RINGFORT_PROGRAM,
        (folder_ / "r.toml").string(), (folder_ / "images").string(), path(run).string(), flags));
  }

  fs::path path(const std::string& name) const { return folder_ / name; }

 private:
  TempFolder folder_;
};

}  // namespace

TEST_CASE("mpi: ranks train a resnet50 on shards and go on where they were stopped or killed",
          "[mpi][slow]") {
  Job job;
  const Outcome whole = job.train(2, "whole");
  INFO(whole.output);
  REQUIRE(whole.exit_code == 0);
  CHECK_THAT(whole.output, Contains("2 ranks by MPI") && Contains("qsgd of 8 bits") &&
                               Contains("error feedback") && Contains("Trained 8 steps"));
  const auto expected = slurp(job.path("whole") / "last.safetensors");
  // At some record in the middle rank 0 is asked to stop; or it is killed, and starts from the last
  // state that it saved.
  for (const std::string fault : {"term 25", "kill 70"}) {
    INFO(fault);
    const Outcome cut = job.train(2, "cut", "--save-every 2 --overwrite", fault);
    INFO(cut.output);
    CHECK(cut.exit_code == (fault == "term 25" ? kExitInterrupted : 128 + 9));
    const Outcome resumed = job.train(2, "cut", "--save-every 2 --resume auto");
    INFO(resumed.output);
    REQUIRE(resumed.exit_code == 0);
    CHECK_THAT(resumed.output, Contains("goes on from step"));
    CHECK(slurp(job.path("cut") / "last.safetensors") == expected);
  }
}

TEST_CASE("mpi: what one rank cannot read ends all with its reason", "[mpi][slow]") {
  Job job;
  const Outcome refused = job.train(2, "run", "--data-dir nowhere");
  INFO(refused.output);
  CHECK(refused.exit_code == 1);
  CHECK_THAT(refused.output, Contains("nowhere"));
  CHECK_FALSE(fs::exists(job.path("run")));
  REQUIRE(job.train(2, "run", "--max-steps 2").exit_code == 0);
  const Outcome again = job.train(2, "run", "--max-steps 2");
  INFO(again.output);
  CHECK(again.exit_code == 1);
  CHECK_THAT(again.output, Contains("--overwrite"));
}

TEST_CASE("mpi: a job that has ended is gone on with by nobody", "[mpi][slow]") {
  Job job;
  REQUIRE(job.train(2, "run", "--max-steps 2").exit_code == 0);
  const Outcome again = job.train(2, "run", "--max-steps 2 --resume auto");
  CHECK(again.exit_code == 0);
  CHECK_THAT(again.output, Contains("is finished"));
}
