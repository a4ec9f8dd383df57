// `ringfort pseudo-label`: labels for images that have none, from a trained model.
#include "adversarial/pseudo_label.h"

#include <fmt/format.h>
#include <unistd.h>

#include "models/checkpoint.h"
#include "tools/commands.h"
#include "tools/machine.h"
#include "tools/target.h"

namespace ringfort {
namespace {

void print_shares(const PseudoLabels& made) {
  std::vector<int64_t> of_class(static_cast<size_t>(made.classes));
  double sum = 0;
  int64_t sure = 0;
  for (size_t i = 0; i < made.labels.size(); ++i) {
    ++of_class[static_cast<size_t>(made.labels[i])];
    sum += static_cast<double>(made.confidence[i]);
    sure += made.confidence[i] >= 0.9f;
  }
  const auto [least, most] = std::minmax_element(of_class.begin(), of_class.end());
  const auto count = static_cast<double>(made.labels.size());
  fmt::print(
      "{} images labelled; mean confidence {:.3f}, {:.1f} % at 0.9 or more; from {} to {} images "
      "per class\n",
      made.labels.size(), sum / count, 100 * static_cast<double>(sure) / count, *least, *most);
}

}  // namespace

int run_pseudo_label(const PseudoLabelCommand& command) {
  require_new(command.output);
  const Target target = find_target("pseudo-label", command.target);
  const std::unique_ptr<Exec> exec = open_exec(command.device, command.threads);
  const LoadedModel loaded = load_checkpoint(*exec, target.checkpoint, {.device = exec->device()});
  const ModelSpec& spec = loaded.model->spec();
  const Dataset data =
      load_dataset(command.dataset, command.data_dir, Split::kTrain, static_cast<int>(spec.height));
  PseudoLabelOptions options;
  options.batch_size = command.batch_size;
  options.norms = attacked_norms(spec.auxiliary_norms);  // the network that evaluations judge
  options.message = [](const std::string& sentence) { fmt::print("{}\n", sentence); };
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  if (terminal)
    options.progress = [&](int64_t done) {
      fmt::print("\r  {} of {} images done", done, data.count);
      std::fflush(stdout);
    };
  Pool pool(exec->device());
  const PseudoLabels made = pseudo_label(*exec, pool, *loaded.model, data, options);
  if (terminal) fmt::print("\n");
  save_pseudo_labels(command.output, made,
                     {{"ringfort.pseudo.checkpoint", target.checkpoint.string()}});
  print_shares(made);
  return 0;
}

}  // namespace ringfort
