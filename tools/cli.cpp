#include "tools/cli.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <functional>

#include "engine/data/dataset.h"
#include "engine/version.h"
#include "models/naming.h"
#include "tools/nearest.h"

namespace ringfort {
namespace {

template <class... Args>
[[noreturn]] void usage(fmt::format_string<Args...> text, Args&&... args) {
  throw UsageError(fmt::format(text, std::forward<Args>(args)...));
}

std::string default_text(const RecipeField& field) {
  static const Recipe defaults;
  const std::string text = toml_value(defaults, field);
  return text == "\"\"" ? "" : fmt::format(" [{}]", text);
}

// Every field of the recipe is an option, grouped as in TOML; the last of repeated ones counts.
void add_train(CLI::App& app, TrainCommand& command) {
  CLI::App* train = app.add_subcommand("train",
                                       "Train by a recipe; --key value replaces what the "
                                       "recipe says");
  train
      ->add_option("RECIPE", command.recipe_file, "recipe in TOML, such as recipes/quickstart.toml")
      ->required();
  train->add_flag("--overwrite", command.overwrite, "replace the run that --output holds");
  const auto resume = [&command](const std::string& how) {
    if (how != "yes" && how != "auto") usage("--resume: '{}' is not one of yes, auto", how);
    command.resume = how == "auto" ? Resume::kAuto : Resume::kYes;
  };
  train
      ->add_option_function<std::string>(
          "--resume", resume,
          "go on with the run that --output holds; auto: where there is one, else begin [yes]")
      ->expected(0, 1)
      ->default_str("yes")
      ->take_last()
      ->type_name("");
  for (const RecipeField& field : recipe_fields()) {
    std::string help = field.help;
    for (const std::string& choice : field.choices)
      help += (&choice == &field.choices.front() ? ": " : ", ") + choice;
    const auto record = [&command, key = field.key](const std::string& value) {
      command.overrides.push_back({key, value});
    };
    train->add_option_function<std::string>("--" + field.key, record, help + default_text(field))
        ->take_last()
        ->type_name("")
        ->group(field.section);
  }
}

CLI::Option* add_real(CLI::App* app, const std::string& name, std::optional<double>& value,
                      const std::string& help) {
  const auto parse = [&value, name](const std::string& text) { value = parse_real(name, text); };
  return app->add_option_function<std::string>(name, parse, help)->take_last()->type_name("");
}

// CLI11 has checks like these two, but shows ranges as "FLOAT in [1 - 100000]".
std::function<std::string(const std::string&)> whole_number(uint64_t low, uint64_t high) {
  return [low, high](const std::string& text) -> std::string {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool read = error == std::errc() && end == text.data() + text.size();
    if (read && value >= low && value <= high) return {};
    return fmt::format("'{}' is no whole number from {} to {}", text, low, high);
  };
}

std::function<std::string(const std::string&)> one_of(std::vector<std::string> choices) {
  return [choices = std::move(choices)](const std::string& text) -> std::string {
    if (std::find(choices.begin(), choices.end(), text) != choices.end()) return {};
    return fmt::format("'{}' is not one of {}", text, fmt::join(choices, ", "));
  };
}

void add_evaluate(CLI::App& app, EvaluateCommand& c) {
  CLI::App* evaluate =
      app.add_subcommand("evaluate", "Attack a trained model and count what holds");
  evaluate->add_option("RUN_OR_CHECKPOINT", c.target, "run folder, or a .safetensors file")
      ->required();
  const auto option = [&](const std::string& name, auto& value, const std::string& help) {
    return evaluate->add_option(name, value, help)->take_last()->type_name("");
  };
  const std::vector<std::string> attacks = {"pgd", "fgsm", "fgsm-rs"},
                                 dtypes = {"float32", "bfloat16"};
  option("--attack", c.attack, "pgd, fgsm, fgsm-rs [pgd]")->check(one_of(attacks));
  option("--norm", c.norm, "Linf, L2 [as in training]")->check(one_of({"Linf", "L2"}));
  add_real(evaluate, "--eps", c.eps, "radius, such as 8/255 [as in training]");
  add_real(evaluate, "--attack-alpha", c.attack_alpha, "step size [the attack's source]");
  option("--attack-steps", c.attack_steps, "steps of PGD [50]")->check(whole_number(1, 100000));
  option("--restarts", c.restarts, "random restarts [10]")->check(whole_number(1, 100000));
  option("--n", c.n, "the first n test images; 0: all [1000]")->check(whole_number(0, 1000000000));
  option("--batch-size", c.batch_size, "images per attack batch [250]")
      ->check(whole_number(1, 1000000));
  option("--seed", c.seed, "seed of the random starts [0]")->check(whole_number(0, UINT64_MAX));
  option("--norms", c.norms,
         "main, auxiliary: batch norms of a model that has two sets [auxiliary, where there are]")
      ->check(one_of({"main", "auxiliary"}));
  option("--attack-dtype", c.attack_dtype, "float32, bfloat16 [float32]")->check(one_of(dtypes));
  evaluate->add_flag("--tf32", c.tf32, "on a GPU, float32 products may round operands to TF32");
  option("--data-dir", c.data_dir, "folder of the data set [as in training]");
  option("--threads", c.threads, "CPU threads; 0: all cores [0]")->check(whole_number(0, 4096));
  option("--device", c.device, "auto, cpu, cuda, cuda:N [auto]");
  option("--json", c.json, "where to write the result [evaluation.json in the run folder]");
}

std::vector<std::string> known_datasets() {
  const std::span<const std::string_view> names = dataset_names();
  return {names.begin(), names.end()};
}

void add_pseudo_label(CLI::App& app, PseudoLabelCommand& c) {
  CLI::App* command = app.add_subcommand(
      "pseudo-label", "Label images that have no labels by a trained model, to train on them");
  command->add_option("RUN_OR_CHECKPOINT", c.target, "run folder, or a .safetensors file")
      ->required();
  const auto option = [&](const std::string& name, auto& value, const std::string& help) {
    return command->add_option(name, value, help)->take_last()->type_name("");
  };
  option("--dataset", c.dataset, "data set whose training images are labelled")
      ->required()
      ->check(one_of(known_datasets()));
  option("--data-dir", c.data_dir, "folder of the data set")->required();
  option("--output", c.output, "file to create")->required();
  option("--batch-size", c.batch_size, "images that go through the network together [250]")
      ->check(whole_number(1, 1000000));
  option("--threads", c.threads, "CPU threads; 0: all cores [0]")->check(whole_number(0, 4096));
  option("--device", c.device, "auto, cpu, cuda, cuda:N [auto]");
}

void add_replay(CLI::App& app, ReplayCommand& c) {
  CLI::App* replay = app.add_subcommand(
      "replay", "Run one step of a training again and say where a number stopped being finite");
  replay->add_option("RUN", c.run, "run folder")->required();
  replay->add_option("STEP", c.step, "number of the step, from 1")
      ->required()
      ->check(whole_number(1, INT64_MAX));
  const auto option = [&](const char* name, auto& value, const char* help) {
    return replay->add_option(name, value, help)->take_last()->type_name("");
  };
  option("--data-dir", c.data_dir, "folder of the data set [as in training]");
  option("--device", c.device, "auto, cpu, cuda, cuda:N [as in training]");
  option("--threads", c.threads, "CPU threads; 0: all cores [as in training]")
      ->check(whole_number(0, 4096));
}

std::vector<std::string> naming_names() {
  std::vector<std::string> names;
  for (const Naming& naming : namings()) names.emplace_back(naming.name);
  return names;
}

void add_export(CLI::App& app, ExportCommand& c) {
  CLI::App* command =
      app.add_subcommand("export", "Write weights as PyTorch definitions want them");
  command->add_option("RUN_OR_CHECKPOINT", c.target, "run folder, or a .safetensors file")
      ->required();
  const auto option = [&](const std::string& name, auto& value, const std::string& help) {
    return command->add_option(name, value, help)->take_last()->type_name("");
  };
  option("--output", c.output, "file to create")->required();
  option("--format", c.format, "safetensors [safetensors]")->check(one_of({"safetensors"}));
  option("--naming", c.naming,
         fmt::format("whose definition: {} [ringfort: the model's source]",
                     fmt::join(naming_names(), ", ")))
      ->check(one_of(naming_names()));
}

void add_import(CLI::App& app, ImportCommand& c) {
  CLI::App* command = app.add_subcommand("import", "Make a checkpoint of weights from elsewhere");
  command->add_option("FILE", c.file, "safetensors; tools/peer/pt_to_safetensors.py makes them")
      ->required();
  const auto option = [&](const std::string& name, auto& value, const std::string& help) {
    return command->add_option(name, value, help)->take_last()->type_name("");
  };
  option("--output", c.output, "to create: a checkpoint if it ends in .safetensors, else a run")
      ->required();
  option("--model", c.model, "network, one of ringfort info --models [as the file says]");
  option("--naming", c.naming,
         fmt::format("whose names: {} [found out]", fmt::join(naming_names(), ", ")))
      ->check(one_of(naming_names()));
  option("--width", c.width, "channels of the first stage [as the file has them]")
      ->check(whole_number(1, 4096));
  option("--classes", c.classes, "classes [as the file has them]")->check(whole_number(2, 65536));
  option("--image-size", c.image_size, "side of the images [the data set's, else 32]")
      ->check(whole_number(8, kMaxImageSize));
  option("--mean", c.mean, "of the normalisation, by channel: 0.49,0.48,0.45 [the file's, else 0]")
      ->delimiter(',');
  option("--std", c.std, "of the normalisation, by channel [the file's, else 1]")->delimiter(',');
  option("--dataset", c.dataset, "data set to be evaluated on")->check(one_of(known_datasets()));
  option("--data-dir", c.data_dir, "folder of the data set");
  option("--norm", c.norm, "of a run's threat model: Linf, L2 [Linf]")
      ->check(one_of({"Linf", "L2"}));
  add_real(command, "--eps", c.eps, "of a run's threat model, such as 8/255 [8/255]");
}

std::vector<std::string> options_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

// CLI11 gathers what it does not know; its own sentence would not help.
void refuse_unknown(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  const CLI::App& context = chosen.empty() ? app : *chosen.front();
  const std::vector<std::string> unknown = app.remaining(true);
  if (unknown.empty() && !chosen.empty()) return;
  if (unknown.empty())
    usage("name a command: {}; see ringfort --help", fmt::join(command_names(app), ", "));
  const std::string word = unknown.front().substr(0, unknown.front().find('='));
  if (word.starts_with('-'))
    usage("unknown option {}; the nearest known one is {}", word,
          nearest(word, options_of(context)));
  if (chosen.empty())
    usage("unknown command '{}'; the nearest known one is '{}'", word,
          nearest(word, command_names(app)));
  usage("'{}' is one argument too many; see ringfort {} --help", word, context.get_name());
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

}  // namespace

Command parse_command_line(std::vector<std::string> arguments) {
  CLI::App app("Ringfort trains image classifiers that withstand adversarial attack.", "ringfort");
  app.allow_extras();
  app.get_formatter()->column_width(34);
  app.set_version_flag("--version", fmt::format("ringfort {}", version()));
  TrainCommand train;
  EvaluateCommand evaluate;
  PseudoLabelCommand labelled;
  ReplayCommand replay;
  ExportCommand exported;
  ImportCommand imported;
  ReportCommand report;
  InfoCommand info;
  add_train(app, train);
  add_evaluate(app, evaluate);
  add_pseudo_label(app, labelled);
  add_replay(app, replay);
  add_export(app, exported);
  add_import(app, imported);
  app.add_subcommand("report", "Make report.html from what lies in a run folder")
      ->add_option("RUN", report.run, "run folder")
      ->required();
  CLI::App* about = app.add_subcommand("info", "Show devices, and on demand plans and models");
  about->add_flag("--plans", info.plans, "the convolution paths timed so far, by shape");
  about->add_flag("--models", info.models, "list the models with their layers and sizes");
  for (CLI::App* command : app.get_subcommands({})) command->allow_extras();

  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    return TextCommand{app.help()};
  } catch (const CLI::CallForVersion& text) {
    return TextCommand{std::string(text.what()) + "\n"};
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();
    usage("{} needs a value; see ringfort --help", text.substr(0, text.find(':')));
  } catch (const CLI::ParseError& error) {
    usage("{}; see ringfort --help", one_line(error.what()));
  }
  refuse_unknown(app);
  if (app.got_subcommand("train")) return train;
  if (app.got_subcommand("evaluate")) return evaluate;
  if (app.got_subcommand("pseudo-label")) return labelled;
  if (app.got_subcommand("replay")) return replay;
  if (app.got_subcommand("export")) return exported;
  if (app.got_subcommand("import")) return imported;
  if (app.got_subcommand("report")) return report;
  return info;
}

}  // namespace ringfort
