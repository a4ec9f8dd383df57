// The program on a machine that fails: it is killed at every operation on its run folder, in the
// middle of every write, its disk runs full at each of them, signals come at each of them. Whatever
// happens, the same command again ends with the bytes of a run that nothing happened to.
//
// tests/faults/inject.cpp counts the operations. Whether none escapes it is seen by
//   strace -f -e trace=file,write,pwrite64,writev,ftruncate,fsync build/ringfort train ...
//
// A case "... at every operation" takes minutes and is hidden: tests/faults/run runs it. What ctest
// runs takes operations that are unlike each other.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <numeric>

#include "adversarial/state_files.h"
#include "engine/safetensors.h"
#include "kernels/philox.h"
#include "tests/idx_files.h"
#include "tests/program.h"
#include "tests/run_left.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

// An operation on the run folder: what it does to which kind of file in it.
struct Operation {
  std::string kind, file;
  bool operator==(const Operation&) const = default;
};

Operation parse_operation(const std::string& line) {
  Operation operation{line.substr(0, line.find(' ')), line.substr(line.find(' ') + 1)};
  if (const size_t mark = operation.file.find(".tmp-"); mark != operation.file.npos)
    operation.file = operation.file.substr(1, mark - 1);
  if (operation.file.starts_with("state-")) operation.file = "state";
  if (operation.file == kBestCheckpoint || operation.file == kLastCheckpoint)
    operation.file = "checkpoint";
  return operation;
}

// A data set, a recipe of two epochs of three steps, and the run that nothing happens to.
class Machine {
 public:
  Machine() {
    const RandomKey key{1, Purpose::kTest, 0};
    Bytes pixels, labels;
    for (uint32_t n = 0; n < 64; ++n) {
      labels.push_back(static_cast<uint8_t>(n % 10));
      for (uint32_t i = 0; i < kMnistImage; ++i)
        pixels.push_back(static_cast<uint8_t>(key.word(n, i)));
    }
    write_idx(folder_, "train", pixels, labels);
    write_text_atomic(folder_ / "r.toml", R"(
dataset = "mnist"
width = 2
eps = 0.1
attack-steps = 1
epochs = 2
batch-size = 16
hold-out = 16
probe-every = 2
probe-samples = 4
val-attack-steps = 1
log-every = 1
save-every = 2
device = "cpu"
threads = 1
)");
    const Outcome outcome = train("whole", "", "none");
    INFO(outcome.output);
    REQUIRE(outcome.exit_code == 0);
    whole_.emplace(folder_ / "whole");
    operations_ = logged();
    std::istringstream records(read_text(folder_ / "whole" / kMetricsFile));
    for (std::string line; std::getline(records, line);) {
      const auto json = nlohmann::json::parse(line);
      steps_of_records_.push_back(json.at("kind") == "step" ? json.at("step").get<int>() : 0);
    }
    const Operation record{"write", kMetricsFile};
    REQUIRE(std::count(operations_.begin(), operations_.end(), record) ==
            static_cast<std::ptrdiff_t>(steps_of_records_.size()));
  }

  // Trains in `run`, or goes on there. fault: "kill 17" (tests/faults/inject.cpp).
  Outcome train(const std::string& run, const std::string& flags = "--resume auto",
                const std::string& fault = "") const {
    std::string environment = "XDG_CACHE_HOME=" + (folder_ / "cache").string();
    if (!fault.empty()) {
      fs::remove(log());
      environment += fmt::format(
          " LD_PRELOAD={} RINGFORT_FAULT_FOLDER={} RINGFORT_FAULT_LOG={} RINGFORT_FAULT='{}'",
          RINGFORT_FAULTS, path(run).string(), log().string(), fault);
    }
    return run_program(
        fmt::format("train {} --data-dir {} --output {} {}", (folder_ / "r.toml").string(),
                    folder_.path().string(), path(run).string(), flags),
        environment);
  }

  fs::path path(const std::string& run) const { return folder_ / run; }

  // Those of the run that nothing happened to, numbered from 1 on.
  const std::vector<Operation>& operations() const { return operations_; }

  // The steps in the newest state that is there before this operation.
  int saved_before(size_t number) const { return steps_saved(before(number)); }
  static int steps_saved(const std::vector<Operation>& done) {
    constexpr int kSaveEvery = 2;  // as in the recipe
    return kSaveEvery *
           static_cast<int>(std::count(done.begin(), done.end(), Operation{"rename", "state"}));
  }

  // The step that is the first to be recorded by this operation or after it; one more than there
  // are where none is.
  int recorded_from(size_t number) const {
    const std::vector<Operation> done = before(number);
    const auto written = std::count(done.begin(), done.end(), Operation{"write", kMetricsFile});
    for (auto step = steps_of_records_.begin() + written; step != steps_of_records_.end(); ++step)
      if (*step > 0) return *step;
    return kSteps + 1;
  }

  // The operation with which the third state begins: two are there before it.
  size_t third_state() const {
    size_t states = 0;
    for (size_t number = 1; number <= operations_.size(); ++number)
      if (operations_[number - 1] == Operation{"create", "state"} && ++states == 3) return number;
    FAIL("there is no third state");
    return 0;
  }

  // Those of the last run with a fault.
  std::vector<Operation> logged() const {
    std::vector<Operation> all;
    std::istringstream lines(read_text(log()));
    for (std::string line; std::getline(lines, line);) all.push_back(parse_operation(line));
    return all;
  }

  // The same command again ends with what the whole run left. from: the steps that were saved,
  // which must not be trained again. Returns what it printed.
  std::string check_goes_on(const std::string& run, int from) const {
    const Outcome outcome = train(run);
    INFO(outcome.output);
    REQUIRE(outcome.exit_code == 0);
    if (from > 0)
      CHECK_THAT(outcome.output,
                 Contains(fmt::format("goes on from step {}", from)) || Contains("is finished"));
    check_equal(Left(path(run)), *whole_);
    return outcome.output;
  }

  static constexpr int kSteps = 6;

 private:
  fs::path log() const { return folder_ / "operations.log"; }
  std::vector<Operation> before(size_t number) const {
    return {operations_.begin(), operations_.begin() + static_cast<std::ptrdiff_t>(number - 1)};
  }

  TempFolder folder_;
  std::vector<Operation> operations_;
  std::vector<int> steps_of_records_;  // in metrics.jsonl, line by line; 0: not of a step
  std::optional<Left> whole_;
};

std::vector<size_t> all_of(const std::vector<Operation>& operations) {
  std::vector<size_t> numbers(operations.size());
  std::iota(numbers.begin(), numbers.end(), 1);
  return numbers;
}

// The last save of each kind of file, whole, when there are others to lose; of those that grow the
// last lines. most_in_a_row: how many more of one kind directly behind each other count on their
// own.
std::vector<size_t> unlike(const std::vector<Operation>& operations, int most_in_a_row) {
  std::map<std::tuple<std::string, std::string, int>, size_t> last;
  int in_a_row = 0;
  for (size_t i = 0; i < operations.size(); ++i) {
    in_a_row = i > 0 && operations[i] == operations[i - 1] ? in_a_row + 1 : 0;
    last[{operations[i].kind, operations[i].file, std::min(in_a_row, most_in_a_row)}] = i + 1;
  }
  std::vector<size_t> numbers;
  for (const auto& [key, number] : last) numbers.push_back(number);
  return numbers;
}

bool is_write(const Operation& operation) { return operation.kind == "write"; }

void tell(const char* what, size_t times) { fmt::print("fault: {}: {}\n", what, times); }

void kill_at(const Machine& machine, const std::vector<size_t>& numbers) {
  size_t before = 0, within = 0;
  for (const size_t number : numbers)
    for (const char* kind : {"kill", "half"}) {
      const Operation& operation = machine.operations()[number - 1];
      const bool half = std::string_view(kind) == "half";
      if (half && !is_write(operation)) continue;
      INFO(kind << " " << number << ": " << operation.kind << " " << operation.file);
      const std::string run = fmt::format("{}-{}", kind, number);
      REQUIRE(machine.train(run, "", fmt::format("{} {}", kind, number)).exit_code ==
              128 + SIGKILL);
      machine.check_goes_on(run, machine.saved_before(number));
      fs::remove_all(machine.path(run));
      ++(half ? within : before);
    }
  tell("kill -9 before an operation on the run folder", before);
  tell("kill -9 in the middle of a write", within);
}

// Those of the files that were there before the disk was full: they must still load.
void check_intact(const fs::path& run) {
  if (!fs::exists(run)) return;
  for (const auto& entry : fs::directory_iterator(run))
    if (entry.path().extension() == ".safetensors") {
      INFO(entry.path());
      CHECK(load_safetensors(entry.path()).checked);
    }
}

void fill_disk_at(const Machine& machine, const std::vector<size_t>& numbers) {
  for (const size_t number : numbers) {
    const Operation& operation = machine.operations()[number - 1];
    INFO("full at " << number << ": " << operation.kind << " " << operation.file);
    const std::string run = fmt::format("full-{}", number);
    const Outcome outcome = machine.train(run, "", fmt::format("full {}", number));
    INFO(outcome.output);
    CHECK(outcome.exit_code == 1);
    const size_t sentence = outcome.output.find("ringfort: ");
    REQUIRE(sentence != outcome.output.npos);
    CHECK_THAT(outcome.output.substr(sentence), Contains("No space left on device"));
    CHECK(outcome.output.find('\n', sentence) == outcome.output.size() - 1);
    check_intact(machine.path(run));
    // On a full disk what is written already can still be renamed: the operation itself counts.
    machine.check_goes_on(run, machine.saved_before(number + 1));
    fs::remove_all(machine.path(run));
  }
  tell("the disk is full from an operation on", numbers.size());
}

// Training ends with the step under way and loses none. Before the program listens for signals,
// they end it as any other.
void signal_at(const Machine& machine, const std::vector<size_t>& numbers, bool listening) {
  for (const size_t number : numbers) {
    const bool term = number % 2 == 0;
    const std::string fault = fmt::format("{} {}", term ? "term" : "int", number);
    INFO(fault << ": " << machine.operations()[number - 1].file);
    const std::string run = fmt::format("signal-{}", number);
    const Outcome outcome = machine.train(run, "", fault);
    INFO(outcome.output);
    const bool died = !listening && outcome.exit_code == 128 + (term ? SIGTERM : SIGINT);
    const int next = machine.recorded_from(number);
    int stopped = 0;
    if (outcome.exit_code == 4) {
      const std::vector<fs::path> states = state_files(machine.path(run));
      REQUIRE_FALSE(states.empty());
      stopped = states[0] == state_path(machine.path(run), next) ? next : next - 1;
      CHECK(states[0] == state_path(machine.path(run), stopped));
      if (listening) CHECK(stopped == next);  // it came with the record of a step
    } else {
      CHECK((died || (outcome.exit_code == 0 && next > Machine::kSteps)));
    }
    machine.check_goes_on(run, stopped);
    fs::remove_all(machine.path(run));
  }
  tell("SIGINT or SIGTERM at an operation on the run folder", numbers.size());
}

// Where each step is told of: with log-every = 1, once a step.
std::vector<size_t> records_of(const std::vector<Operation>& operations) {
  std::vector<size_t> numbers;
  for (const size_t number : all_of(operations))
    if (operations[number - 1] == Operation{"write", kMetricsFile}) numbers.push_back(number);
  return numbers;
}

// A run that was killed is killed again while it goes on.
void kill_twice(const Machine& machine, size_t first, const std::vector<size_t>& numbers) {
  const std::string killed = fmt::format("kill {}", first);
  size_t times = 0;
  for (const size_t number : numbers) {
    INFO("killed before " << first << ", then before " << number << " of going on");
    const std::string run = fmt::format("twice-{}", number);
    REQUIRE(machine.train(run, "", killed).exit_code == 128 + SIGKILL);
    const Outcome again = machine.train(run, "--resume auto", fmt::format("kill {}", number));
    if (again.exit_code == 0) break;  // it has not so many operations
    REQUIRE(again.exit_code == 128 + SIGKILL);
    std::vector<Operation> done = machine.logged();
    done.pop_back();
    machine.check_goes_on(run, machine.saved_before(first) + Machine::steps_saved(done));
    fs::remove_all(machine.path(run));
    ++times;
  }
  CHECK(times > 0);
  tell("kill -9, and again before an operation while it goes on", times);
}

// What an overwritten run was is gone, but the one that replaces it can always be started.
void kill_overwriting(const Machine& machine, size_t most) {
  REQUIRE(machine.train("old", "--seed 5").exit_code == 0);
  size_t times = 0;
  for (size_t number = 1; number <= most; ++number) {
    INFO("killed before " << number << " of overwriting");
    fs::copy(machine.path("old"), machine.path("run"), fs::copy_options::recursive);
    const Outcome outcome = machine.train("run", "--overwrite", fmt::format("kill {}", number));
    REQUIRE(outcome.exit_code == 128 + SIGKILL);
    REQUIRE(machine.train("run", "--overwrite").exit_code == 0);
    machine.check_goes_on("run", Machine::kSteps);
    fs::remove_all(machine.path("run"));
    ++times;
  }
  tell("kill -9 before an operation while a run is overwritten", times);
}

}  // namespace

TEST_CASE("a run killed at any moment of a save loses nothing", "[faults][spread][slow]") {
  const Machine machine;
  kill_at(machine, unlike(machine.operations(), 8));
}

TEST_CASE("a full disk is one sentence, and what was saved before is still there",
          "[faults][spread][slow]") {
  const Machine machine;
  fill_disk_at(machine, unlike(machine.operations(), 0));
}

TEST_CASE("a signal at any step is a state to go on from", "[faults][spread][slow]") {
  const Machine machine;
  signal_at(machine, records_of(machine.operations()), true);
}

TEST_CASE("a run killed while it goes on, or overwrites another, loses nothing",
          "[faults][spread][slow]") {
  const Machine machine;
  kill_twice(machine, machine.operations().size() / 2, {1, 2, 3, 4, 5, 6});
  kill_overwriting(machine, 8);
}

TEST_CASE("a second run in the folder of a running one changes nothing", "[faults][slow]") {
  const Machine machine;
  REQUIRE(machine.train("run", "--max-steps 2").exit_code == 0);
  const Left before(machine.path("run"));
  const int held = ::open(machine.path("run").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  REQUIRE(::flock(held, LOCK_EX | LOCK_NB) == 0);
  for (const char* flags : {"--overwrite", "--seed 3 --overwrite"})
    check_complaint(machine.train("run", flags), 1, "being trained");
  check_complaint(machine.train("run", ""), 1, "already holds a run");
  check_equal(Left(machine.path("run")), before);
  ::close(held);
  CHECK(machine.train("run", "--overwrite").exit_code == 0);
  tell("a second run in the folder of a running one", 3);
}

TEST_CASE("a damaged state gives way to the one before it", "[faults][slow]") {
  const Machine machine;
  REQUIRE(machine.train("run", "", fmt::format("kill {}", machine.third_state())).exit_code ==
          128 + SIGKILL);
  const std::vector<fs::path> saved = state_files(machine.path("run"));
  REQUIRE(saved.size() == 2);
  const Bytes newest = slurp(saved[0]);
  const auto check = [&](const Bytes& damaged) {
    fs::copy(machine.path("run"), machine.path("other"), fs::copy_options::recursive);
    spit(machine.path("other") / saved[0].filename(), damaged);
    CHECK_THAT(machine.check_goes_on("other", 2),
               Contains("the state before it is taken: " + saved[1].filename().string()));
    fs::remove_all(machine.path("other"));
  };
  constexpr size_t kPlaces = 12;
  for (size_t i = 0; i < kPlaces; ++i) {
    const size_t place = newest.size() * i / kPlaces;
    INFO("a bit flipped in byte " << place << ", then everything from there on lost");
    Bytes damaged = newest;
    damaged[place] = static_cast<uint8_t>(damaged[place] ^ 1 << i % 8);
    check(damaged);
    damaged.resize(place);
    check(damaged);
  }
  tell("a bit flipped in the newest state", kPlaces);
  tell("the newest state truncated", kPlaces);

  for (const fs::path& state : saved) spit(state, {});
  const auto before = Left::names(machine.path("run"));
  check_complaint(machine.train("run"), 1, "no state of the run");
  CHECK(Left::names(machine.path("run")) == before);
}

TEST_CASE("a replay starts from the newest state before its step that can be read",
          "[faults][slow]") {
  const Machine machine;
  REQUIRE(machine.train("run", "", fmt::format("kill {}", machine.third_state())).exit_code ==
          128 + SIGKILL);
  const std::string run = machine.path("run").string();
  const auto replay = [&](const std::string& step) {
    const Outcome outcome = run_program("replay " + run + " " + step);
    INFO(outcome.output);
    CHECK(outcome.exit_code == 0);
    CHECK_THAT(outcome.output, Contains("All values are finite: mean loss "));
    return outcome.output;
  };
  const std::string whole = replay("6");
  CHECK_THAT(whole, Contains("Going to step 6 from the state after step 4\nstep 5 of 6\n") &&
                        Contains("Step 6, in epoch 2: 16 images"));
  CHECK_THAT(replay("4 --threads 1 --device cpu"), Contains("from the state after step 2"));
  CHECK_THAT(replay("2"), Contains("from the beginning, because no state before it is kept"));
  check_complaint(run_program("replay " + run + " 7"), 1, "there is no step 7");
  check_complaint(run_program("replay " + run + " 6 --device tpu"), 1, "tpu");

  const std::string last_line = whole.substr(whole.find("Step 6, "));
  const std::vector<fs::path> saved = state_files(run);
  spit(saved.at(0), {1});
  CHECK_THAT(replay("6"), Contains(saved[0].string()) &&
                              Contains("Going to step 6 from the state after step 2") &&
                              Contains(last_line));
  spit(saved.at(1), {1});
  CHECK_THAT(replay("6"), Contains("from the beginning, because no state before it can be read") &&
                              Contains(last_line));
  CHECK(Left::names(run).contains(saved[0].filename().string()));
}

TEST_CASE("a run is not gone on with by another recipe", "[faults][slow]") {
  const Machine machine;
  REQUIRE(
      machine.train("run", "", fmt::format("kill {}", machine.operations().size() / 2)).exit_code ==
      128 + SIGKILL);
  const std::vector<std::pair<const char*, const char*>> changes = {
      {"--seed 3", "seed was 0 and is 3 now"},
      {"--eps 0.2", "eps was 0.1 and is 0.2 now"},
      {"--epochs 3", "epochs was 2 and is 3 now"},
      {"--width 4", "width was 2 and is 4 now"},
      {"--sched cosine", "sched was"}};
  for (const auto& [flags, part] : changes)
    check_complaint(machine.train("run", std::string("--resume auto ") + flags), 1, part);
  tell("going on by another recipe", changes.size());
  machine.check_goes_on("run", machine.saved_before(machine.operations().size() / 2));
}

TEST_CASE("a run killed at every operation loses nothing", "[.][every-fault]") {
  const Machine machine;
  kill_at(machine, all_of(machine.operations()));
}

TEST_CASE("a disk full at every operation loses nothing", "[.][every-fault]") {
  const Machine machine;
  fill_disk_at(machine, all_of(machine.operations()));
}

TEST_CASE("signals at every operation lose nothing", "[.][every-fault]") {
  const Machine machine;
  signal_at(machine, all_of(machine.operations()), false);
}

TEST_CASE("a run killed at every operation of going on or overwriting loses nothing",
          "[.][every-fault]") {
  const Machine machine;
  kill_twice(machine, machine.operations().size() / 2, all_of(machine.operations()));
  kill_overwriting(machine, 20);
}
