// TensorBoard's event files: checksums by their published values, records that read back, and the
// file of a run.
#include "tools/event_file.h"

#include <cmath>

#include "tests/event_files.h"
#include "tests/example_run.h"
#include "tests/temp_folder.h"

using namespace ringfort;
using namespace ringfort::test;

TEST_CASE("CRC-32C has the values of RFC 3720", "[events]") {
  CHECK(crc32c("123456789") == 0xE3069283);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AA);
  CHECK(crc32c(std::string(32, '\xFF')) == 0x62A8AB43);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising += c;
  CHECK(crc32c(rising) == 0x46DD794E);
  CHECK(crc32c("") == 0);
  // ((crc >> 15) | (crc << 17)) + 0xa282ead8
  CHECK(masked_crc32c("123456789") == 0xC78AB0E5);
}

TEST_CASE("a record has the bytes of its protocol buffers", "[events]") {
  const Scalar scalar{"a/b", 0.5};
  const std::string record = scalar_record(2.0, 300, std::span(&scalar, 1));
  const std::string data = std::string("\x09\0\0\0\0\0\0\0\x40", 9) + "\x10\xAC\x02" +
                           "\x2A\x0C\x0A\x0A\x0A\x03" + "a/b" + std::string("\x15\0\0\0\x3F", 5);
  REQUIRE(record.size() == 8 + 4 + data.size() + 4);
  CHECK(record.substr(0, 8) == std::string("\x1A\0\0\0\0\0\0\0", 8));
  CHECK(record.substr(12, data.size()) == data);
}

TEST_CASE("the event file of a run holds what its records hold", "[events]") {
  const TempFolder folder;
  {
    RunFolder run(folder / "run", example_recipe(), ExistingRun::kRefuse, quiet());
    train_a_little(run);
    EpochRecord nothing_held_out;
    nothing_held_out.step = 21;
    run.on_epoch(nothing_held_out);
  }
  const std::vector<ReadEvent> events = read_events(folder / "run" / kEventFile);
  REQUIRE(events.size() == 5);
  CHECK(events[0].version == "brain.Event:2");
  CHECK(events[0].scalars.empty());
  for (size_t i = 1; i < events.size(); ++i) CHECK(events[i].wall_time >= events[i - 1].wall_time);
  CHECK(events[0].wall_time > 1.7e9);
  CHECK(events[1].step == 10);
  CHECK(std::isnan(events[1].scalars.at("train/loss")));
  CHECK(events[2].step == 20);
  CHECK(events[2].scalars == std::map<std::string, float>{{"train/loss", 0.75f},
                                                          {"train/accuracy", 0.0f},
                                                          {"train/lr", 0.0f},
                                                          {"train/images_per_second", 1234.0f},
                                                          {"time/data_ms", 1.0f},
                                                          {"time/attack_ms", 500.0f},
                                                          {"time/training_ms", 250.0f},
                                                          {"time/update_ms", 2.0f},
                                                          {"memory/mb", 210.0f},
                                                          {"held_out/probe_accuracy", 0.5f}});
  CHECK(events[4].step == 20);
  CHECK(events[4].scalars == std::map<std::string, float>{{"held_out/clean_accuracy", 0.8125f},
                                                          {"held_out/robust_accuracy", 0.4375f}});
}

TEST_CASE("the event file of a resumed run has no step twice", "[events]") {
  const TempFolder folder;
  const auto step_at = [](RunFolder& run, int64_t step) {
    StepRecord record;
    record.step = step;
    run.on_step(record);
  };
  std::string saved;
  {
    RunFolder run(folder / "run", example_recipe(), ExistingRun::kRefuse, quiet());
    step_at(run, 10);
    saved = run.on_save();
    step_at(run, 20);
  }
  const auto resumed = [&] {
    RunFolder run(folder / "run", example_recipe(), ExistingRun::kResume, quiet());
    run.on_resume("again", saved, 10);
    step_at(run, 20);
    step_at(run, 30);
  };
  resumed();
  std::vector<ReadEvent> events = read_events(folder / "run" / kEventFile);
  REQUIRE(events.size() == 4);
  for (size_t i = 1; i < 4; ++i) CHECK(events[i].step == static_cast<int64_t>(10 * i));
  // A file that somebody has removed is begun anew.
  std::filesystem::remove(folder / "run" / kEventFile);
  resumed();
  events = read_events(folder / "run" / kEventFile);
  REQUIRE(events.size() == 3);
  CHECK(events[0].version == "brain.Event:2");
  CHECK(events[1].step == 20);
}
