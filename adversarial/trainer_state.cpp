// A training put down and taken up again: all that decides how it goes on, as bytes.
#include <cmath>
#include <nlohmann/json.hpp>

#include "adversarial/state_files.h"
#include "adversarial/trainer.h"
#include "engine/format_number.h"
#include "engine/json_error.h"

namespace ringfort {
namespace {

using Json = nlohmann::json;

constexpr const char* kProgress = "ringfort.training";  // keys of the file's metadata
constexpr const char* kObserver = "ringfort.observer";
// To be raised whenever a state of before cannot be gone on with.
constexpr int64_t kStateFormat = 1;

Json to_json(std::optional<double> value) { return value ? Json(*value) : Json(); }

}  // namespace

// Random numbers need nothing here: they are functions of seed, epoch, sample and step. What is
// made of the weights (folded filters, copies in bfloat16) is made again.
std::vector<NamedView> Trainer::state() const {
  std::vector<NamedView> all = training_state(model_->params(), step_->optimizer());
  for (NamedView& part : step_->state()) all.push_back(std::move(part));
  if (healthy_)
    for (NamedView& part : healthy_->state("healthy.")) all.push_back(std::move(part));
  return all;
}

std::string Trainer::progress() const {
  const double at = now();
  Json broken = Json::array();
  for (const BrokenImage& image : broken_of_epoch_)
    broken.push_back({image.sample, image.replaced_by, image.reason});
  const Json json = {
      {kFormatKey, kStateFormat},
      {"ranks", ranks()},
      {"last_lr", reducer_ ? reducer_->last_lr() : 0},
      {"steps", result_.steps},
      {"total_steps", total_steps_},
      {"skipped", skipped_},
      {"mean", model_->spec().mean},  // perhaps of a checkpoint that is there no longer
      {"std", model_->spec().std},
      {"epoch_totals", {epoch_totals_.loss, epoch_totals_.correct, epoch_totals_.images}},
      {"collapse", {collapse_.best(), collapse_.training_at_best()}},
      {"healthy_accuracy", healthy_ ? Json(healthy_accuracy_) : Json()},
      {"best_epoch", best_.epoch()},
      {"broken", broken},
      {"best_accuracy", to_json(best_.robust_accuracy())},
      {"seconds", {at - started_, at - epoch_started_, at - record_started_}}};
  return json.dump();
}

void Trainer::save_state_file() {
  const auto of_ranks = state_of_ranks();  // all take part
  if (rank() != 0) return;
  std::vector<NamedView> all = state();
  for (const auto& [name, tensor] : of_ranks) all.push_back({name, tensor});
  if (reducer_)
    for (NamedView& part : reducer_->common_state()) all.push_back(std::move(part));
  save_state(state_path(folder_, result_.steps), exec_.device(), all,
             {{kProgress, progress()}, {kObserver, observer_->on_save()}});
  remove_old_states(folder_);
}

void Trainer::resume(const std::filesystem::path& path) {
  const SafetensorsFile file = load_safetensors(path);
  const auto entry = [&](const char* key) {
    const auto found = file.metadata.find(key);
    require(found != file.metadata.end(), "{}: this is no state of a training", file.file);
    return found->second;
  };
  try {
    const Json json = Json::parse(entry(kProgress));
    require_format(json, kStateFormat, file.file, "state");
    const auto numbers = [&](const char* key) { return json.at(key).get<std::vector<double>>(); };
    const auto steps = json.at("steps").get<int64_t>();
    const auto total = json.at("total_steps").get<int64_t>();
    require(total == total_steps_ && steps >= 1 && steps <= total,
            "{}: its training has {} steps, this one {}; resume it by its own recipe", file.file,
            total, total_steps_);
    // Nothing stays of a state that was tried before and refused.
    healthy_.reset();
    broken_of_epoch_.clear();
    const Json& healthy = json.at("healthy_accuracy");
    if (!healthy.is_null()) {
      healthy_.emplace(exec_, pool_, model_->params(), step_->optimizer());
      healthy_accuracy_ = healthy.get<double>();
    }
    const auto mean = json.at("mean").get<std::vector<float>>();
    const auto std = json.at("std").get<std::vector<float>>();
    load_state(file, exec_.device(), state());
    if (reducer_) reducer_->resume(json.at("last_lr").get<double>());
    resume_rank(file);
    model_->set_normalization(mean, std);
    result_.steps = steps;
    skipped_ = json.at("skipped").get<int64_t>();
    const Json& totals = json.at("epoch_totals");
    epoch_totals_ = {totals.at(0).get<double>(), totals.at(1).get<int64_t>(),
                     totals.at(2).get<int64_t>()};
    for (const Json& image : json.at("broken"))
      broken_of_epoch_.push_back(
          {image.at(0).get<int64_t>(), image.at(1).get<int64_t>(), image.at(2).get<std::string>()});
    collapse_.resume(numbers("collapse").at(0), numbers("collapse").at(1));
    const Json& accuracy = json.at("best_accuracy");
    best_.resume(json.at("best_epoch").get<int>(),
                 accuracy.is_null() ? std::nullopt : std::optional(accuracy.get<double>()));
    const std::vector<double> seconds = numbers("seconds");
    const double at = now();
    started_ = at - seconds.at(0);
    epoch_started_ = at - seconds.at(1);
    record_started_ = at - seconds.at(2);
  } catch (const std::out_of_range&) {
    fail("{}: a number is missing in its description", file.file);
  } catch (const Json::exception& error) {
    fail("{}: its description cannot be read: {}", file.file, json_reason(error));
  }
  resumed_ = entry(kObserver);
  model_->params().master_changed(exec_);
  model_->params().statistics_changed();
}

}  // namespace ringfort
