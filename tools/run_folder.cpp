#include "tools/run_folder.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "engine/files.h"
#include "engine/json_error.h"
#include "engine/version.h"
#include "kernels/error.h"
#include "tools/evaluation_file.h"
#include "tools/event_file.h"
#include "tools/recipe_file.h"

namespace ringfort {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array kRunFiles = {kRecipeFile,     kSummaryFile,   kMetricsFile, kEventFile,
                                  kEvaluationFile, kExamplesFile,  kReportFile,  kBestCheckpoint,
                                  kLastCheckpoint, kLiveCheckpoint};

// Says what is there, so that the reader of the sentence can decide.
std::string list_run_files(const fs::path& folder) {
  std::string names;
  for (const char* file : kRunFiles)
    if (fs::exists(folder / file)) names += (names.empty() ? "" : ", ") + std::string(file);
  return names;
}

// The folder is there afterwards, and may be written to once no other run holds it.
void require_usable(const fs::path& folder, ExistingRun existing) {
  const std::string name = folder.string();
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (fs::exists(status)) {
    require(fs::is_directory(status),
            "'{}' is a file, so no run folder can be made there; choose another --output", name);
    const bool empty = fs::is_empty(folder, error);
    require(!error, "cannot look into '{}': {}", name, error.message());
    if (empty) return;
    require(holds_a_run(folder),
            "'{}' holds files that are no run of Ringfort; nothing was changed, choose another "
            "--output",
            name);
    require(
        existing != ExistingRun::kRefuse,
        "'{}' already holds a run ({}); nothing was changed, choose another --output, go on with "
        "it by --resume or replace it with --overwrite",
        name, list_run_files(folder));
    return;
  }
  require(!fs::is_symlink(fs::symlink_status(folder, error)),
          "'{}' is a link to a place that is not there; remove it or choose another --output",
          name);
  fs::create_directories(folder, error);
  require(!error, "cannot create the run folder '{}': {}; check --output", name, error.message());
}

// But for the recipe, which is replaced: whenever this is killed, a run is still known as one, and
// nothing is left that would be taken for the state of another.
void remove_run_files(const fs::path& folder) {
  std::error_code error;
  remove_states(folder);
  for (const char* file : kRunFiles) {
    if (file == kRecipeFile) continue;
    fs::remove(folder / file, error);
    require(!error, "cannot remove '{}': {}", (folder / file).string(), error.message());
  }
}

// Bytes that are not UTF-8 (in a path, say) become U+FFFD rather than an error.
std::string to_line(const Json& record) {
  return record.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The last record of a run that is over.
std::string end_line(bool collapsed) { return to_line({{"kind", collapsed ? "collapse" : "end"}}); }

double wall_time() {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since_1970).count();
}

fs::path prepared(fs::path folder, ExistingRun existing) {
  require_usable(folder, existing);
  return folder;
}

// In the event file; summary.csv and metrics.jsonl have the phases' names.
constexpr std::array kPhaseTags = {"time/data_ms", "time/attack_ms", "time/training_ms",
                                   "time/update_ms"};
static_assert(kPhaseTags.size() == kPhaseNames.size());

PhaseSeconds milliseconds(PhaseSeconds phases) {
  for (double& value : phases) value *= 1e3;
  return phases;
}

Json step_ms(const PhaseSeconds& phases) {
  Json record;
  for (size_t i = 0; i < phases.size(); ++i) record[kPhaseNames.at(i)] = milliseconds(phases).at(i);
  return record;
}

double megabytes(int64_t bytes) { return 1e-6 * static_cast<double>(bytes); }

std::string recipe_text(const Recipe& recipe) {
  return fmt::format(
      "# Every setting of this run. Repeat it: ringfort train {} --output ANOTHER_FOLDER\n\n{}",
      kRecipeFile, to_toml(recipe));
}

}  // namespace

bool holds_a_run(const fs::path& folder) {
  std::error_code none;
  for (const char* file : {kRecipeFile, kSummaryFile, kMetricsFile})
    if (fs::exists(folder / file, none)) return true;
  return false;
}

RunEnd end_of(const fs::path& folder) {
  std::ifstream metrics(folder / kMetricsFile, std::ios::binary);
  // However long the run was, only its last record is read.
  const auto ends_with = [&](const std::string& record) {
    std::string last(record.size(), '\0');
    metrics.clear();
    metrics.seekg(-static_cast<std::streamoff>(last.size()), std::ios::end);
    return metrics.read(last.data(), static_cast<std::streamsize>(last.size())) && last == record;
  };
  if (ends_with(end_line(false) + "\n")) return RunEnd::kFinished;
  return ends_with(end_line(true) + "\n") ? RunEnd::kCollapsed : RunEnd::kNone;
}

std::string imported_from(const fs::path& folder) {
  std::ifstream metrics(folder / kMetricsFile, std::ios::binary);
  std::string first;
  std::getline(metrics, first);
  const Json record = Json::parse(first, nullptr, false);
  const bool imported = record.is_object() && record.value("kind", Json()) == "import";
  const Json file = imported ? record.value("file", Json()) : Json();
  return file.is_string() ? file.get<std::string>() : "";
}

bool is_stillborn(const fs::path& folder) {
  std::error_code none;
  const auto told = [&](const char* file) {
    return fs::exists(folder / file, none) && fs::file_size(folder / file, none) > 0;
  };
  return !fs::exists(folder / kRecipeFile, none) && !told(kSummaryFile) && !told(kMetricsFile) &&
         state_files(folder).empty();
}

RunFolder::Lock::Lock(const fs::path& folder)
    : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0 || ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  const bool taken = errno == EWOULDBLOCK;
  if (!taken) return;
  ::close(descriptor_);
  fail("a run is being trained in '{}' just now; nothing was changed, choose another --output",
       folder.string());
}

RunFolder::Lock::~Lock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

RunFolder::Log::Log(fs::path path, bool existing) : path_(std::move(path)) {
  // "x": of two runs started in one folder at the same time, the second fails here.
  file_.reset(std::fopen(path_.c_str(), existing ? "r+e" : "wxe"));
  const int reason = errno;
  require(file_ != nullptr, "cannot {} '{}': {}", existing ? "open" : "create", path_.string(),
          std::generic_category().message(reason));
  std::fseek(file_.get(), 0, SEEK_END);
}

int64_t RunFolder::Log::saved_bytes() {
  const bool ok = std::fflush(file_.get()) == 0 && ::fsync(::fileno(file_.get())) == 0;
  const int reason = errno;
  require(ok, "cannot write '{}': {}; free space, then go on with --resume", path_.string(),
          std::generic_category().message(reason));
  return std::ftell(file_.get());
}

void RunFolder::Log::cut(int64_t bytes) {
  const int64_t there = saved_bytes();
  require(bytes >= 0 && bytes <= there,
          "'{}' has {} bytes, but had {} when the state was saved; it cannot be gone on with",
          path_.string(), there, bytes);
  const bool ok = ::ftruncate(::fileno(file_.get()), bytes) == 0 &&
                  std::fseek(file_.get(), bytes, SEEK_SET) == 0;
  const int reason = errno;
  require(ok, "cannot cut '{}': {}", path_.string(), std::generic_category().message(reason));
}

void RunFolder::Log::append(std::string_view record) {
  const bool ok = std::fwrite(record.data(), 1, record.size(), file_.get()) == record.size() &&
                  std::fflush(file_.get()) == 0;
  const int reason = errno;
  require(ok, "cannot write '{}': {}; free space, then start again", path_.string(),
          std::generic_category().message(reason));
}

RunFolder::RunFolder(fs::path folder, const Recipe& recipe, ExistingRun existing,
                     std::FILE* progress, std::function<bool()> stop_requested)
    : folder_(prepared(std::move(folder), existing)),
      lock_(folder_),
      progress_(progress, recipe.epochs),
      stop_requested_(std::move(stop_requested)) {
  const bool resumed = existing == ExistingRun::kResume;
  remove_unfinished_writes(folder_);
  if (existing == ExistingRun::kOverwrite) remove_run_files(folder_);
  summary_ = std::make_unique<Log>(folder_ / kSummaryFile, resumed);
  metrics_ = std::make_unique<Log>(folder_ / kMetricsFile, resumed);
  open_events(resumed);
  if (resumed) return;
  // After the logs: of two runs started in one folder at once, where no lock tells them apart, only
  // the one that got them writes.
  write_text_atomic(folder_ / kRecipeFile, recipe_text(recipe));
  summary_->append_line(fmt::format(
      "epoch,step,train_loss,train_accuracy,clean_accuracy,robust_accuracy,lr,images_per_second,"
      "seconds,best,{}_ms,memory_mb",
      fmt::join(kPhaseNames, "_ms,")));
}

// Nothing hangs on this file: where it was lost, a run goes on with a new one.
void RunFolder::open_events(bool resumed) {
  const bool there = resumed && fs::exists(folder_ / kEventFile);
  events_ = std::make_unique<Log>(folder_ / kEventFile, there);
  if (!there) events_->append(event_file_start(wall_time()));
}

void RunFolder::on_import(const std::string& file, const Recipe& recipe) {
  constexpr std::array<std::string_view, 7> kKeys = {"dataset", "data-dir", "image-size", "model",
                                                     "width",   "norm",     "eps"};
  std::string line = file;  // that of a comment
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < ' '; }, '?');
  write_text_atomic(
      folder_ / kRecipeFile,
      fmt::format("# The weights here were imported from {} and not trained here: these "
                  "settings are what 'ringfort\n# evaluate' reads.\n\n{}",
                  line, to_toml(recipe, kKeys)));
  metrics_->append_line(to_line({{"kind", "import"}, {"file", file}}));
  progress_.on_message(fmt::format("the weights were imported from {} and not trained here", file));
}

void RunFolder::on_end(bool collapsed) {
  metrics_->append_line(end_line(collapsed));
  metrics_->saved_bytes();
}

std::string RunFolder::on_save() {
  return Json{{"summary", summary_->saved_bytes()},
              {"metrics", metrics_->saved_bytes()},
              {"events", events_->saved_bytes()}}
      .dump();
}

void RunFolder::on_resume(const std::string& header, const std::string& saved, int64_t step) {
  try {
    const Json lengths = Json::parse(saved);
    summary_->cut(lengths.at("summary").get<int64_t>());
    metrics_->cut(lengths.at("metrics").get<int64_t>());
    events_->cut(std::min(lengths.at("events").get<int64_t>(), events_->saved_bytes()));
  } catch (const Json::exception& error) {
    fail("'{}': the state does not say how long its records were: {}", folder_.string(),
         json_reason(error));
  }
  // Not in the records, which are to be those of a run that was never stopped.
  progress_.on_start(header);
  progress_.on_message(fmt::format("goes on from step {}", step));
}

void RunFolder::on_start(const std::string& header) {
  const Json record = {{"kind", "start"}, {"version", version()}, {"header", header}};
  metrics_->append_line(to_line(record));
  progress_.on_start(header);
}

void RunFolder::on_step(const StepRecord& step) {
  Json record = {{"kind", "step"},
                 {"step", step.step},
                 {"total_steps", step.total_steps},
                 {"epoch", step.epoch},
                 {"loss", step.loss},
                 {"accuracy", step.accuracy},
                 {"lr", step.lr},
                 {"images_per_second", step.images_per_second},
                 {"seconds", step.seconds},
                 {"step_ms", step_ms(step.phases)},
                 {"memory", step.memory}};
  std::vector<Scalar> scalars = {{"train/loss", step.loss},
                                 {"train/accuracy", step.accuracy},
                                 {"train/lr", step.lr},
                                 {"train/images_per_second", step.images_per_second},
                                 {"memory/mb", megabytes(step.memory)}};
  for (size_t i = 0; i < kPhaseTags.size(); ++i)
    scalars.push_back({kPhaseTags.at(i), milliseconds(step.phases).at(i)});
  if (step.probe_accuracy) {
    record["probe_accuracy"] = *step.probe_accuracy;
    scalars.push_back({"held_out/probe_accuracy", *step.probe_accuracy});
  }
  metrics_->append_line(to_line(record));
  events_->append(scalar_record(wall_time(), step.step, scalars));
  progress_.on_step(step);
}

void RunFolder::on_epoch(const EpochRecord& epoch) {
  Json record = {{"kind", "epoch"},
                 {"epoch", epoch.epoch},
                 {"step", epoch.step},
                 {"train_loss", epoch.train_loss},
                 {"train_accuracy", epoch.train_accuracy},
                 {"lr", epoch.lr},
                 {"images_per_second", epoch.images_per_second},
                 {"seconds", epoch.seconds},
                 {"step_ms", step_ms(epoch.phases)},
                 {"memory", epoch.memory},
                 {"best", epoch.best}};
  std::vector<Scalar> scalars;
  const auto held_out = [&](const char* key, const char* tag, std::optional<double> accuracy) {
    if (!accuracy) return;
    record[key] = *accuracy;
    scalars.push_back({tag, *accuracy});
  };
  held_out("clean_accuracy", "held_out/clean_accuracy", epoch.clean_accuracy);
  held_out("robust_accuracy", "held_out/robust_accuracy", epoch.robust_accuracy);
  metrics_->append_line(to_line(record));
  if (!scalars.empty()) events_->append(scalar_record(wall_time(), epoch.step, scalars));
  // An empty cell: no images are held out.
  const auto cell = [](std::optional<double> value) {
    return value ? fmt::format("{:.6g}", *value) : std::string();
  };
  summary_->append_line(
      fmt::format("{},{},{:.6g},{:.6g},{},{},{:.6g},{:.1f},{:.2f},{:d},{:.3f},{:.1f}", epoch.epoch,
                  epoch.step, epoch.train_loss, epoch.train_accuracy, cell(epoch.clean_accuracy),
                  cell(epoch.robust_accuracy), epoch.lr, epoch.images_per_second, epoch.seconds,
                  epoch.best, fmt::join(milliseconds(epoch.phases), ","), megabytes(epoch.memory)));
  progress_.on_epoch(epoch);
}

void RunFolder::on_message(const std::string& sentence) {
  const Json record = {{"kind", "message"}, {"text", sentence}};
  metrics_->append_line(to_line(record));
  progress_.on_message(sentence);
}

}  // namespace ringfort
