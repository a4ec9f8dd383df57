// `ringfort evaluate`: a run folder or a checkpoint under attack.
#include <fmt/format.h>
#include <unistd.h>

#include "adversarial/evaluate.h"
#include "adversarial/method.h"
#include "models/checkpoint.h"
#include "tools/commands.h"
#include "tools/evaluation_file.h"
#include "tools/machine.h"
#include "tools/progress.h"
#include "tools/report.h"
#include "tools/run_folder.h"
#include "tools/target.h"

namespace ringfort {
namespace {

AttackOptions make_attack(const EvaluateCommand& command, const Recipe& recipe) {
  const std::string norm = command.norm.value_or(recipe.norm);
  ThreatModel threat;
  threat.norm = parse_norm(norm);
  require(command.eps || norm == recipe.norm,
          "--norm: the run was trained at eps {} in {}, which is no radius in {}; give --eps too",
          format_float(recipe.eps), recipe.norm, norm);
  threat.eps = command.eps.value_or(recipe.eps);
  require_eps_in_range("--eps", norm, threat.eps);
  const bool one_step = command.attack != "pgd";
  require(!one_step || command.attack_steps.value_or(1) == 1,
          "--attack-steps: {} takes one step; use --attack pgd", command.attack);
  AttackOptions options =
      evaluation_attack(command.attack, threat, command.attack_steps.value_or(one_step ? 1 : 50));
  if (command.attack_alpha) {
    require_eps_in_range("--attack-alpha", norm, *command.attack_alpha);
    require(*command.attack_alpha > 0,
            "--attack-alpha: steps of 0 go nowhere; leave it out for the attack's own step size");
    options.alpha = *command.attack_alpha;
  }
  options.restarts = command.restarts.value_or(one_step ? 1 : 10);
  options.dtype = parse_dtype(command.attack_dtype);
  options.seed = command.seed;
  return options;
}

Norms parse_norms(const std::string& name, const Model& model,
                  const std::filesystem::path& checkpoint) {
  require(name != "auxiliary" || model.spec().auxiliary_norms,
          "--norms: the model of {} has one set of batch norms only; leave the option out",
          checkpoint.string());
  return name == "main" ? Norms::kMain : attacked_norms(model.spec().auxiliary_norms);
}

// What a run holds is its best evidence: only an evaluation in the same threat model, of as many
// images and as strong, replaces it. Asked before an attack that takes long.
void require_as_strong(const std::filesystem::path& file, const AttackOptions& attack,
                       const std::string& norms, int64_t n) {
  Evaluation there;
  try {
    std::string no_images;
    there = read_evaluation(file, &no_images);
  } catch (const Error&) {
    return;  // none, or not whole
  }
  const bool same_threat = there.norm == to_string(attack.threat.norm) &&
                           there.eps == attack.threat.eps && there.norms == norms;
  const bool as_strong =
      n >= there.n && attack.steps >= there.steps && attack.restarts >= there.restarts;
  require(same_threat && as_strong,
          "evaluate: '{}' holds a {} evaluation ({}, {} steps, {} restarts, eps {} in {}, {} "
          "images{}), which this one would replace; write this one elsewhere with --json FILE, or "
          "move that one away",
          file.string(), same_threat ? "stronger" : "different", there.attack, there.steps,
          there.restarts, format_float(there.eps), there.norm, there.n,
          there.norms.empty() ? "" : fmt::format(", {} norms", there.norms));
}

std::string percent(double accuracy) { return fmt::format("{:.1f} %", 100 * accuracy); }

}  // namespace

int run_evaluate(const EvaluateCommand& command) {
  const Target target = find_target("evaluate", command.target);
  const Recipe recipe = target.recipe.value_or(Recipe{});
  require(target.recipe || (command.eps && command.data_dir),
          "evaluate: {} has no {} beside it, so --eps and --data-dir must be given",
          target.checkpoint.string(), kRecipeFile);

  // What can be wrong with the command is found out before an attack that takes long.
  if (!command.json.empty()) require_replaceable(command.json);
  const std::unique_ptr<Exec> exec = open_exec(command.device, command.threads);
  exec->allow_tf32(command.tf32);
  EvaluateOptions options;
  options.attack_name = command.attack;
  options.attack = make_attack(command, recipe);
  options.n = command.n;
  options.batch_size = command.batch_size;
  const bool for_the_run = command.json.empty() && !target.run.empty();
  const LoadedModel loaded = load_checkpoint(
      *exec, target.checkpoint,
      {.bfloat16_copy = options.attack.dtype == Dtype::kBFloat16, .device = exec->device()});
  options.attack.norms = parse_norms(command.norms, *loaded.model, target.checkpoint);
  const auto named = loaded.metadata.find("ringfort.dataset");
  const std::string data_dir = command.data_dir.value_or(recipe.data_dir);
  const Dataset test =
      load_dataset(named != loaded.metadata.end() ? named->second : recipe.dataset, data_dir,
                   Split::kTest, static_cast<int>(loaded.model->spec().height));
  if (for_the_run)
    require_as_strong(target.run / kEvaluationFile, options.attack,
                      norms_in_words(*loaded.model, options.attack.norms),
                      sample_count(options, test));

  fmt::print("Attacking {} on {}: {}\n", target.checkpoint.string(), test.name,
             describe(options.attack));
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  if (terminal)
    options.progress = [](int64_t done, int64_t total) {
      fmt::print("\r  {} of {} images done", done, total);
      std::fflush(stdout);
    };
  options.message = [](const std::string& sentence) { fmt::print("{}\n", sentence); };
  Pool pool(exec->device());
  Evaluation evaluation = evaluate(*exec, pool, *loaded.model, test, options);
  if (terminal) fmt::print("\n");
  evaluation.checkpoint = target.checkpoint.filename().string();
  evaluation.data_dir = data_dir;

  fmt::print("Clean accuracy {}, robust accuracy {} on {} images in {}\n",
             percent(evaluation.clean_accuracy), percent(evaluation.robust_accuracy), evaluation.n,
             duration_text(evaluation.seconds));
  // With --json the run keeps its own evaluation and report.
  if (!command.json.empty()) {
    write_evaluation(command.json, evaluation);
  } else if (for_the_run) {
    write_evaluation(target.run / kEvaluationFile, evaluation);
    write_report(target.run);
  }
  return 0;
}

}  // namespace ringfort
