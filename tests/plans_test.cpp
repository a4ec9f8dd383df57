// The memory of measured plans: kept on disk, shared between processes, never trusted when damaged
// or foreign.
#include "kernels/plans.h"

#include <catch2/catch.hpp>

#include "kernels/conv2d.h"
#include "tests/arrays.h"
#include "tests/temp_folder.h"

namespace ringfort {
namespace {

using test::slurp;
using test::spit;
using test::TempFolder;

PlanEntry entry_for(const std::string& key, const std::string& chosen) {
  return {key, chosen, {{"direct", 120.5}, {"winograd", 60.25}}, 0.5};
}

std::string text_of(const std::filesystem::path& path) {
  const test::Bytes bytes = slurp(path);
  return {bytes.begin(), bytes.end()};
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  spit(path, {text.begin(), text.end()});
}

std::string chosen_for(const PlanCache& cache, const std::string& key) {
  const PlanEntry* entry = cache.find(key);
  return entry ? entry->chosen : "none";
}

// A 3x3 convolution that Winograd is offered for.
Values forward(Exec& exec) {
  const Shape shape{2, 12, 12, 32}, filter{32, 3, 3, 32};
  const Array x(shape, Dtype::kFloat32, Layout::kBlocked16, some_values(shape.count(), 1));
  const Array w(filter, Dtype::kFloat32, Layout::kChannelsLast, some_values(filter.count(), 2));
  const Array y(shape, Dtype::kFloat32, Layout::kBlocked16);
  conv2d_forward(exec, y, x, {w}, {1, 1});
  return y.values();
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  REQUIRE(text.find(from) != text.npos);
  return text.replace(text.find(from), from.size(), to);
}

}  // namespace

TEST_CASE("plans: recorded, saved at once, and read by the next process", "[plans]") {
  const TempFolder folder;
  const std::string file = folder / "cache/plans.json";  // the folder is made
  PlanCache first(file, "library 1", "cpu");
  CHECK(first.find("b") == nullptr);
  first.record(entry_for("b", "winograd"));
  first.record(entry_for("a", "direct"));

  const PlanCache second(file, "library 1", "cpu");  // while the first is still there
  const std::vector<PlanEntry> entries = second.entries();
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].key == "a");
  CHECK(entries[0].chosen == "direct");
  CHECK(entries[1].chosen == "winograd");
  REQUIRE(entries[1].candidates.size() == 2);
  CHECK(entries[1].candidates[0].name == "direct");
  CHECK(entries[1].candidates[0].microseconds == 120.5);
  CHECK(entries[1].gflop == 0.5);
  CHECK(entries[1].gflop_per_second(entries[1].candidates[0]) == Approx(0.5e6 / 120.5));
  CHECK(std::distance(std::filesystem::directory_iterator(folder / "cache"), {}) ==
        1);  // no temporary file
}

TEST_CASE("plans: two processes share a file, and what was saved first stays", "[plans]") {
  const TempFolder folder;
  const std::string file = folder / "plans.json";
  PlanCache first(file, "library 1", "cpu"), second(file, "library 1", "cpu");
  first.record(entry_for("both", "direct"));
  first.record(entry_for("first", "direct"));
  second.record(entry_for("both", "winograd"));
  second.record(entry_for("second", "winograd"));
  CHECK(chosen_for(second, "both") == "winograd");  // a process keeps its choice
  const PlanCache third(file, "library 1", "cpu");
  CHECK(chosen_for(third, "both") == "direct");
  CHECK(chosen_for(third, "first") == "direct");
  CHECK(chosen_for(third, "second") == "winograd");
}

TEST_CASE("plans: a damaged or foreign file is set aside and rewritten", "[plans]") {
  const TempFolder folder;
  const std::string file = folder / "plans.json";
  PlanCache(file, "library 1", "cpu").record(entry_for("a", "winograd"));
  const std::string good = text_of(file);
  const std::string bad =
      GENERATE_COPY(std::string(), std::string("not JSON"), good.substr(0, good.size() / 2),
                    std::string("[]"), std::string("{}"), replaced(good, "library 1", "library 2"),
                    replaced(good, "\"cpu\": \"cpu\"", "\"cpu\": \"other\""),
                    replaced(good, "\"chosen\": \"winograd\"", "\"chosen\": 7"),
                    replaced(good, "\"key\"", "\"quay\""), replaced(good, "120.5", "\"fast\""));
  INFO(bad);
  write_text(file, bad);
  PlanCache cache(file, "library 1", "cpu");
  CHECK(cache.entries().empty());
  cache.record(entry_for("b", "direct"));
  const PlanCache again(file, "library 1", "cpu");
  CHECK(again.entries().size() == 1);
  CHECK(chosen_for(again, "b") == "direct");
}

TEST_CASE("plans: a file that cannot be written costs nothing but the memory of it", "[plans]") {
  const TempFolder folder;
  write_text(folder / "file", "here");
  PlanCache cache(folder / "file/plans.json", "library 1",
                  "cpu");  // a file where a folder should be
  cache.record(entry_for("a", "direct"));
  CHECK(chosen_for(cache, "a") == "direct");
  CHECK(folder.entries() == 1);
}

TEST_CASE("plans: the fastest is taken, but for 2 % the earlier one", "[plans]") {
  const auto chosen = [](double direct, double winograd) {
    return choose_candidate({{"direct", direct}, {"winograd", winograd}});
  };
  CHECK(chosen(100, 50) == 1);
  CHECK(chosen(50, 100) == 0);
  CHECK(chosen(101.9, 100) == 0);
  CHECK(chosen(102.1, 100) == 1);
}

TEST_CASE("plans: a convolution is measured once, and a rerun takes the recorded choice",
          "[plans]") {
  const TempFolder folder;
  const std::string file = folder / "plans.json";
  Values first;
  {
    Exec exec({}, 2, file);
    first = forward(exec);
    REQUIRE(exec.plans().entries().size() == 1);
    (void)forward(exec);
    CHECK(exec.plans().entries().size() == 1);
  }
  const std::string saved = text_of(file);
  CHECK(saved.find("forward float32 n2 h12 w12 c32 -> o32 k3 s1 p1 blocked16 threads2") !=
        saved.npos);
  {
    Exec exec({}, 2, file);
    CHECK(forward(exec) == first);
  }
  CHECK(text_of(file) == saved);  // nothing was measured again

  // Whatever the file says is done, the slower one too.
  const std::vector<std::string> offered = conv2d_prefers_blocks()
                                               ? std::vector<std::string>{"direct", "winograd"}
                                               : std::vector<std::string>{"direct-any"};
  for (const std::string& name : offered) {
    const size_t begin = saved.find("\"chosen\": \""), end = saved.find('\n', begin);
    write_text(file, std::string(saved).replace(begin, end - begin,
                                                fmt::format("\"chosen\": \"{}\",", name)));
    Exec exec({}, 2, file), forced({}, 2);
    forced.plans().force(name);
    CHECK(forward(exec) == forward(forced));
  }
}

TEST_CASE("plans: a forced implementation is used and not recorded", "[plans]") {
  Exec exec({}, 2);
  exec.plans().force("direct");
  const Values direct = forward(exec);
  exec.plans().force("winograd");
  const Values winograd = forward(exec);
  // They differ in the last bits; without AVX-512 there is none.
  CHECK((direct != winograd) == conv2d_prefers_blocks());
  exec.plans().force("direct");
  CHECK(forward(exec) == direct);
  CHECK(exec.plans().entries().empty());
  exec.plans().force("");
  const Values chosen = forward(exec);
  REQUIRE(exec.plans().entries().size() == 1);
  CHECK(chosen == (exec.plans().entries()[0].chosen == "winograd" ? winograd : direct));
}

}  // namespace ringfort
