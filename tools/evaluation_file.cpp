#include "tools/evaluation_file.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/files.h"
#include "engine/json_error.h"
#include "engine/safetensors.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxJsonBytes = uint64_t{1} << 28;

size_t image_size(const Evaluation& e) {
  return static_cast<size_t>(e.height) * static_cast<size_t>(e.image_width) *
         static_cast<size_t>(e.channels);
}

// ---- Writing -----------------------------------------------------------------------------------

Json to_json(const Evaluation& e) {
  Json examples = Json::array();
  for (const AdversarialExample& x : e.examples)
    examples.push_back({{"sample", x.sample},
                        {"label", x.label},
                        {"clean_prediction", x.clean_prediction},
                        {"adversarial_prediction", x.adversarial_prediction}});
  Json attack = {{"name", e.attack}, {"norm", e.norm},   {"eps", e.eps},
                 {"alpha", e.alpha}, {"steps", e.steps}, {"restarts", e.restarts},
                 {"seed", e.seed},   {"dtype", e.dtype}, {"bn", e.attack_bn}};
  if (!e.norms.empty()) attack["norms"] = e.norms;
  return {{"clean_accuracy", e.clean_accuracy},
          {"robust_accuracy", e.robust_accuracy},
          {"n", e.n},
          {"attack", attack},
          {"model", e.model},
          {"width", e.width},
          {"checkpoint", e.checkpoint},
          {"data_dir", e.data_dir},
          {"dataset", e.dataset},
          {"class_names", e.class_names},
          {"image", {{"height", e.height}, {"width", e.image_width}, {"channels", e.channels}}},
          {"seconds", e.seconds},
          {"version", e.version},
          {"samples",
           {{"labels", e.labels},
            {"clean_predictions", e.clean_predictions},
            {"adversarial_predictions", e.adversarial_predictions},
            {"clean_correct", e.clean_correct},
            {"robust_correct", e.robust_correct}}},
          {"examples", examples}};
}

// A key per line, and so for the per-sample arrays: easy to read, and a line per array to compare.
std::string dump_by_line(const Json& object, const std::string& indent) {
  std::string out = "{\n";
  bool first = true;
  for (const auto& [key, value] : object.items()) {
    if (!first) out += ",\n";
    first = false;
    const bool nested = key == "samples";
    out += fmt::format("{}  {}: {}", indent, Json(key).dump(),
                       nested ? dump_by_line(value, indent + "  ") : value.dump());
  }
  return out + "\n" + indent + "}";
}

std::vector<float> gathered(const Evaluation& e, std::vector<float> AdversarialExample::*image) {
  std::vector<float> all;
  for (const AdversarialExample& x : e.examples) {
    require((x.*image).size() == image_size(e), "example {} has {} pixels, {} x {} x {} expected",
            x.sample, (x.*image).size(), e.height, e.image_width, e.channels);
    all.insert(all.end(), (x.*image).begin(), (x.*image).end());
  }
  return all;
}

void write_examples(const fs::path& path, const Evaluation& e) {
  const std::vector<int64_t> shape{static_cast<int64_t>(e.examples.size()), e.height, e.image_width,
                                   e.channels};
  const std::vector<float> x_nat = gathered(e, &AdversarialExample::x_nat);
  const std::vector<float> x_adv = gathered(e, &AdversarialExample::x_adv);
  const std::vector<NamedArray> arrays{{"x_nat", "F32", shape, std::as_bytes(std::span(x_nat))},
                                       {"x_adv", "F32", shape, std::as_bytes(std::span(x_adv))}};
  save_safetensors(path, arrays, {{"dataset", e.dataset}});
}

// ---- Reading -----------------------------------------------------------------------------------

Evaluation from_json(const Json& json) {
  Evaluation e;
  const auto get = [](const Json& from, const char* key, auto& to) { from.at(key).get_to(to); };
  const Json &attack = json.at("attack"), &samples = json.at("samples");
  get(json, "clean_accuracy", e.clean_accuracy);
  get(json, "robust_accuracy", e.robust_accuracy);
  get(json, "n", e.n);
  get(json, "model", e.model);
  get(json, "width", e.width);
  get(json, "checkpoint", e.checkpoint);
  get(json, "data_dir", e.data_dir);
  get(json, "dataset", e.dataset);
  get(json, "class_names", e.class_names);
  get(json, "seconds", e.seconds);
  get(json, "version", e.version);
  get(json.at("image"), "height", e.height);
  get(json.at("image"), "width", e.image_width);
  get(json.at("image"), "channels", e.channels);
  get(attack, "name", e.attack);
  get(attack, "norm", e.norm);
  get(attack, "eps", e.eps);
  get(attack, "alpha", e.alpha);
  get(attack, "steps", e.steps);
  get(attack, "restarts", e.restarts);
  get(attack, "seed", e.seed);
  get(attack, "dtype", e.dtype);
  get(attack, "bn", e.attack_bn);
  if (attack.contains("norms")) get(attack, "norms", e.norms);
  get(samples, "labels", e.labels);
  get(samples, "clean_predictions", e.clean_predictions);
  get(samples, "adversarial_predictions", e.adversarial_predictions);
  get(samples, "clean_correct", e.clean_correct);
  get(samples, "robust_correct", e.robust_correct);
  for (const Json& from : json.at("examples")) {
    AdversarialExample& x = e.examples.emplace_back();
    get(from, "sample", x.sample);
    get(from, "label", x.label);
    get(from, "clean_prediction", x.clean_prediction);
    get(from, "adversarial_prediction", x.adversarial_prediction);
  }
  return e;
}

void check(const Evaluation& e, const std::string& file) {
  const auto classes = static_cast<int32_t>(e.class_names.size());
  const auto n = static_cast<size_t>(std::max<int64_t>(e.n, 0));
  const auto is_class = [&](int32_t index) { return index >= 0 && index < classes; };
  const auto is_share = [](double x) { return x >= 0 && x <= 1; };
  require(e.n > 0 && is_share(e.clean_accuracy) && is_share(e.robust_accuracy),
          "'{}': n must be above 0 and accuracies from 0 to 1", file);
  for (const auto* list : {&e.labels, &e.clean_predictions, &e.adversarial_predictions}) {
    require(list->size() == n, "'{}': a list under 'samples' has {} entries, n is {}", file,
            list->size(), e.n);
    require(std::all_of(list->begin(), list->end(), is_class),
            "'{}': a label or prediction is none of the {} classes", file, classes);
  }
  require(e.clean_correct.size() == n && e.robust_correct.size() == n,
          "'{}': clean_correct and robust_correct must have n = {} entries", file, e.n);
  constexpr int kMaxSide = 1 << 14;
  require(e.norms.empty() || e.norms == "main" || e.norms == "auxiliary",
          "'{}': norms are '{}', neither main nor auxiliary", file, e.norms);
  const bool sides = e.height > 0 && e.height <= kMaxSide && e.image_width > 0 &&
                     e.image_width <= kMaxSide && (e.channels == 1 || e.channels == 3);
  require(sides || e.examples.empty(), "'{}': images of {} x {} x {} cannot be shown", file,
          e.height, e.image_width, e.channels);
  for (const AdversarialExample& x : e.examples)
    require(is_class(x.label) && is_class(x.clean_prediction) && is_class(x.adversarial_prediction),
            "'{}': an example's label or prediction is none of the {} classes", file, classes);
}

void read_examples(const fs::path& path, Evaluation& e) {
  const SafetensorsFile file = load_safetensors(path);
  const std::vector<int64_t> shape{static_cast<int64_t>(e.examples.size()), e.height, e.image_width,
                                   e.channels};
  const auto fill = [&](const char* name, std::vector<float> AdversarialExample::*image) {
    const NamedArray& array = file.at(name);
    require(array.dtype == "F32" && array.shape == shape,
            "'{}': {} does not fit the evaluation beside it; evaluate again", path.string(), name);
    const std::byte* from = array.bytes.data();
    for (AdversarialExample& x : e.examples) {
      (x.*image).resize(image_size(e));
      std::memcpy((x.*image).data(), from, image_size(e) * sizeof(float));
      from += image_size(e) * sizeof(float);
    }
  };
  fill("x_nat", &AdversarialExample::x_nat);
  fill("x_adv", &AdversarialExample::x_adv);
}

}  // namespace

fs::path examples_path(const fs::path& json_file) {
  const std::string stem = json_file.stem().string();
  return json_file.parent_path() /
         (stem == "evaluation" ? kExamplesFile : stem + "." + kExamplesFile);
}

void require_replaceable(const fs::path& json_file) {
  const std::string name = json_file.string();
  require(json_file.has_filename(), "'{}' names a folder, not a file", name);
  const fs::path folder = json_file.has_parent_path() ? json_file.parent_path() : ".";
  std::error_code none;
  require(fs::is_directory(folder, none), "there is no folder '{}' to write '{}' in",
          folder.string(), json_file.filename().string());
  require(::access(folder.c_str(), W_OK) == 0, "the folder '{}' is not writable", folder.string());
  if (!fs::exists(json_file, none)) {
    const fs::path examples = examples_path(json_file);
    require(!fs::exists(examples, none),
            "'{}' would be replaced by the images of '{}'; name another file or move it away",
            examples.string(), name);
    return;
  }
  std::string ignored;
  try {
    read_evaluation(json_file, &ignored);
  } catch (const Error&) {
    fail("'{}' exists and is not an earlier evaluation; name another file or move it away", name);
  }
}

void write_evaluation(const fs::path& json_file, const Evaluation& evaluation) {
  check(evaluation, json_file.string());
  if (!evaluation.examples.empty()) write_examples(examples_path(json_file), evaluation);
  try {
    write_text_atomic(json_file, dump_by_line(to_json(evaluation), "") + "\n");
  } catch (const Json::exception& error) {
    fail("cannot write '{}': a name in it is not UTF-8", json_file.string());
  }
}

Evaluation read_evaluation(const fs::path& json_file, std::string* why_no_examples) {
  const std::string text = read_text(json_file, kMaxJsonBytes);
  Evaluation evaluation;
  try {
    evaluation = from_json(Json::parse(text));
  } catch (const Json::exception& error) {
    fail("'{}' is not a whole evaluation ({}); evaluate again", json_file.string(),
         json_reason(error));
  }
  check(evaluation, json_file.string());
  if (evaluation.examples.empty()) return evaluation;
  try {
    read_examples(examples_path(json_file), evaluation);
  } catch (const Error& error) {
    if (why_no_examples == nullptr) throw;
    *why_no_examples = error.what();
    evaluation.examples.clear();
  }
  return evaluation;
}

}  // namespace ringfort
