// Sections of the report that show numbers: headline, curves, settings, commands.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tools/chart.h"
#include "tools/html.h"
#include "tools/progress.h"
#include "tools/recipe_file.h"
#include "tools/report_parts.h"
#include "tools/run_folder.h"

namespace ringfort {
namespace {

std::string tile(std::string_view style, std::string_view label, const std::string& value,
                 const std::string& below) {
  return fmt::format(
      "<div class=\"tile {}\"><p class=\"label\">{}</p><p class=\"value\">{}</p>"
      "<p class=\"below\">{}</p></div>\n",
      style, label, escape(value), escape(below));
}

std::string interval_text(double share, int64_t n) {
  const Interval interval = wilson(share, n);
  return fmt::format("95 % interval {:.1f} to {:.1f} %", 100 * interval.low, 100 * interval.high);
}

double training_seconds(const RunData& run) {
  double seconds = 0;
  if (!run.steps.empty()) seconds = run.steps.back().seconds;
  if (!run.epochs.empty()) seconds = std::max(seconds, run.epochs.back().seconds);
  return seconds;
}

double median_rate(const RunData& run) {
  std::vector<double> rates;
  for (const StepRecord& step : run.steps)
    if (std::isfinite(step.images_per_second)) rates.push_back(step.images_per_second);
  if (rates.empty()) return 0;
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
  std::nth_element(rates.begin(), middle, rates.end());
  return *middle;
}

std::string training_tile(const RunData& run) {
  const double seconds = training_seconds(run);
  if (!(seconds > 0)) return "";
  const double rate = median_rate(run);
  std::string below = run.epochs.empty() ? "" : fmt::format("{} epochs", run.epochs.back().epoch);
  if (rate > 0) below += (below.empty() ? "" : ", ") + grouped(std::llround(rate)) + " images/s";
  return tile("", "Training time", duration_text(seconds), below);
}

std::string memory_tile(const RunData& run) {
  int64_t most = 0;
  for (const StepRecord& step : run.steps) most = std::max(most, step.memory);
  if (most == 0) return "";
  return tile("", "Memory", fmt::format("{} MB", grouped(std::llround(1e-6 * double(most)))),
              "of tensors, the most");
}

struct Part {
  const char* style;
  const char* text;
  double size;
  std::string value;
};

// Parts of a whole as one bar, each as long as its size, with what they are below it.
std::string parts_bar(std::initializer_list<Part> parts) {
  std::string bar, legend;
  for (const Part& part : parts) {
    bar += fmt::format("<i class=\"{}\" style=\"flex-grow:{:.6g}\"></i>", part.style, part.size);
    legend += fmt::format("<span class=\"key\"><i class=\"swatch {}\"></i>{} <b>{}</b></span>",
                          part.style, part.text, part.value);
  }
  return "<div class=\"outcome\"><div class=\"bar\">" + bar + "</div><div class=\"legend\">" +
         legend + "</div></div>\n";
}

// Where the time of the mean step went.
std::string phases_bar(const RunData& run) {
  PhaseSeconds mean = {};
  for (const StepRecord& step : run.steps)
    for (size_t i = 0; i < mean.size(); ++i)
      mean.at(i) += step.phases.at(i) / static_cast<double>(run.steps.size());
  if (!(std::accumulate(mean.begin(), mean.end(), 0.0) > 0)) return "";
  const auto part = [&](Phase phase, const char* style, const char* text) {
    const double seconds = mean.at(static_cast<size_t>(phase));
    return Part{style, text, 1e3 * seconds, fmt::format("{:.1f} ms", 1e3 * seconds)};
  };
  return "<p class=\"lead\">Where the time of a training step went:</p>\n" +
         parts_bar({part(Phase::kData, "wrong", "waiting for images"),
                    part(Phase::kAttack, "fooled", "attack"),
                    part(Phase::kTraining, "held", "training pass"),
                    part(Phase::kUpdate, "update", "update")});
}

// What became of the n images, as one bar: withstood, fooled, wrong without any attack.
std::string outcome_bar(const Evaluation& e) {
  int64_t robust = 0, fooled = 0, wrong = 0;
  for (size_t i = 0; i < e.clean_correct.size(); ++i) {
    if (e.robust_correct[i] != 0)
      ++robust;
    else if (e.clean_correct[i] != 0)
      ++fooled;
    else
      ++wrong;
  }
  const auto part = [](const char* style, const char* text, int64_t count) {
    return Part{style, text, static_cast<double>(count), grouped(count)};
  };
  return parts_bar({part("held", "withstood the attack", robust),
                    part("fooled", "fooled by it", fooled),
                    part("wrong", "wrong without any attack", wrong)});
}

std::string without_quotes(const std::string& toml) {
  const bool text = toml.size() >= 2 && toml.front() == '"';
  return text ? toml.substr(1, toml.size() - 2) : toml;
}

Chart accuracy_chart(const RunData& run) {
  Series clean{"clean, held-out", "clean", {}, true},
      robust{"robust, held-out", "robust", {}, true}, probe{"probe (PGD-10)", "probe", {}, false},
      train{"training, attacked", "faint", {}, false};
  for (const EpochRecord& epoch : run.epochs) {
    if (epoch.clean_accuracy) clean.points.push_back({double(epoch.epoch), *epoch.clean_accuracy});
    if (epoch.robust_accuracy)
      robust.points.push_back({double(epoch.epoch), *epoch.robust_accuracy});
  }
  for (const StepRecord& step : run.steps) {
    train.points.push_back({step.epoch, step.accuracy});
    if (step.probe_accuracy) probe.points.push_back({step.epoch, *step.probe_accuracy});
  }
  return {"Accuracy", "epoch", true, true, {train, probe, clean, robust}};
}

Chart step_chart(const RunData& run, const char* title, const char* style,
                 double StepRecord::*value) {
  Series series{title, style, {}};
  for (const StepRecord& step : run.steps) series.points.push_back({step.epoch, step.*value});
  return {title, "epoch", false, false, {series}};
}

}  // namespace

std::string attack_in_words(const Evaluation& e) {
  const std::string eps = format_float(e.eps), alpha = format_float(e.alpha);
  const std::string ball =
      e.norm == "Linf" ? fmt::format("each pixel value, of 0 to 1, may change by at most {}", eps)
                       : fmt::format("the change's Euclidean length is at most {}", eps);
  std::string how;
  if (e.attack == "pgd")
    how = fmt::format(
        "PGD-{0}-{1}: {0} gradient steps of {2} from each of {1} random starts, the "
        "worst for the model counts",
        e.steps, e.restarts, alpha);
  else if (e.attack == "fgsm")
    how = fmt::format("FGSM: one gradient step {} from the image itself{}",
                      alpha == eps ? "to the edge of the ball" : "of " + alpha,
                      e.restarts == 1 ? ""
                                      : fmt::format(", then from {} random start{}, the worst for "
                                                    "the model counts",
                                                    e.restarts - 1, e.restarts == 2 ? "" : "s"));
  else if (e.attack == "fgsm-rs")
    how = fmt::format("FGSM-RS: one gradient step of {} from {}", alpha,
                      e.restarts == 1 ? "a random start"
                                      : fmt::format("each of {} random starts, the worst for the "
                                                    "model counts",
                                                    e.restarts));
  else
    how = fmt::format("{}: {} steps of {}, {} restarts", e.attack, e.steps, alpha, e.restarts);
  const std::string norms =
      e.norms.empty() ? "" : fmt::format(" All images go through the {} batch norms.", e.norms);
  return fmt::format("{}; {} ({} norm). The attacker knows all weights.{}", how, ball, e.norm,
                     norms);
}

std::string headline_html(const RunData& run) {
  std::string out = "<section class=\"headline\">\n<div class=\"tiles\">\n";
  if (run.evaluation) {
    const Evaluation& e = *run.evaluation;
    out += tile("robust", "Robust accuracy", percent(e.robust_accuracy),
                interval_text(e.robust_accuracy, e.n));
    out += tile("clean", "Clean accuracy", percent(e.clean_accuracy),
                interval_text(e.clean_accuracy, e.n));
  }
  out += training_tile(run) + memory_tile(run);
  if (run.evaluation)
    out += tile("", "Attack time", duration_text(run.evaluation->seconds),
                grouped(run.evaluation->n) + " test images");
  out += "</div>\n";
  if (run.evaluation)
    out += outcome_bar(*run.evaluation) +
           fmt::format("<p class=\"lead\">{}</p>\n", escape(attack_in_words(*run.evaluation)));
  return out + "</section>\n";
}

std::string curves_html(const RunData& run) {
  const std::string charts =
      chart_html(accuracy_chart(run)) +
      chart_html(step_chart(run, "Training loss", "robust", &StepRecord::loss)) +
      chart_html(step_chart(run, "Learning rate", "faint", &StepRecord::lr));
  if (charts.empty()) return "";
  return "<section><h2>Training</h2><div class=\"charts\">\n" + charts + "</div>\n" +
         phases_bar(run) + "</section>\n";
}

std::string settings_html(const Recipe& recipe) {
  std::string out = "<section><h2>Settings</h2><div class=\"settings\">", section;
  for (const RecipeField& field : recipe_fields()) {
    if (field.section != section)
      out += fmt::format("{}<table><caption>{}</caption>\n", section.empty() ? "" : "</table>\n",
                         escape(field.section));
    section = field.section;
    out += fmt::format("<tr title=\"{}\"><th>{}</th><td>{}</td></tr>\n", escape(field.help),
                       escape(field.key), escape(without_quotes(toml_value(recipe, field))));
  }
  return out + "</table></div></section>\n";
}

std::string reproduce_html(const RunData& run, const std::filesystem::path& folder) {
  const std::string again = shell_word(folder.string() + "-again");
  const bool trained = run.recipe && run.imported_from.empty();
  std::string commands;
  if (trained)
    commands += fmt::format("ringfort train {} \\\n    --output {}\n",
                            shell_word((folder / kRecipeFile).string()), again);
  if (run.evaluation) {
    const Evaluation& e = *run.evaluation;
    commands += fmt::format(
        "ringfort evaluate {} \\\n    --attack {} --norm {} --eps {} --attack-alpha {} "
        "--attack-steps {} --restarts {} \\\n    --n {} --seed {} --attack-dtype {}",
        trained ? again : shell_word(folder.string()), shell_word(e.attack), shell_word(e.norm),
        format_float(e.eps), format_float(e.alpha), e.steps, e.restarts, e.n, e.seed,
        shell_word(e.dtype));
    if (!e.norms.empty()) commands += " --norms " + e.norms;
    if (!run.recipe || run.recipe->data_dir != e.data_dir)
      commands += " \\\n    --data-dir " + shell_word(e.data_dir);
    commands += "\n";
  }
  if (commands.empty()) return "";
  std::string out = "<section><h2>Run it again</h2>\n<pre>" + escape(commands) + "</pre>\n";
  if (!run.header.empty())
    out += "<p class=\"lead\">The run began with</p><pre>" + escape(run.header) + "</pre>\n";
  return out + "</section>\n";
}

}  // namespace ringfort
