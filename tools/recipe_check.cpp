#include "tools/recipe_check.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "adversarial/optimization.h"
#include "engine/data/dataset.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

// Recipes are written back as TOML and shown in HTML: both are UTF-8.
bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xC2 && lead < 0xE0 ? 2
                          : (lead & 0xF0) == 0xE0       ? 3
                          : lead >= 0xF0 && lead < 0xF5 ? 4
                                                        : 0;
    if (length == 0 || i + length > text.size()) return false;
    uint32_t code = length == 1 ? lead : lead & (0x7Fu >> length);
    for (size_t j = 1; j < length; ++j) {
      const auto next = static_cast<unsigned char>(text[i + j]);
      if ((next & 0xC0) != 0x80) return false;
      code = code << 6 | (next & 0x3Fu);
    }
    const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    if (overlong || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    i += length;
  }
  return true;
}

void check_text(const RecipeField& field, const std::string& text, std::string_view what) {
  if (!field.choices.empty()) {
    const bool known =
        std::find(field.choices.begin(), field.choices.end(), text) != field.choices.end();
    require(known, "{}: '{}' is not one of {}", what, text, fmt::join(field.choices, ", "));
    return;
  }
  const bool printable = std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == 0x7F;
  });
  require(printable && is_utf8(text),
          "{} holds control characters or bytes that are not UTF-8; write plain text", what);
}

void check_device(const std::string& device, const std::string& what) {
  const std::string_view prefix = "cuda:";
  const bool numbered = device.starts_with(prefix) && device.size() > prefix.size() &&
                        device.size() <= prefix.size() + 3 &&
                        device.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
  require(device == "auto" || device == "cpu" || device == "cuda" || numbered,
          "{}: '{}' is not one of auto, cpu, cuda, cuda:N", what, device);
}

void check_pseudo(const Recipe& recipe,
                  const std::function<std::string(const std::string& key)>& where) {
  const bool some = !recipe.pseudo_dataset.empty() || !recipe.pseudo_data_dir.empty() ||
                    !recipe.pseudo_labels.empty();
  const bool all = !recipe.pseudo_dataset.empty() && !recipe.pseudo_data_dir.empty() &&
                   !recipe.pseudo_labels.empty();
  require(all || !some,
          "pseudo-labelled images need pseudo-dataset, pseudo-data-dir and pseudo-labels; give all "
          "three or none");
  const std::span<const std::string_view> known = dataset_names();
  require(!some || std::find(known.begin(), known.end(), recipe.pseudo_dataset) != known.end(),
          "{}: '{}' is not one of {}", where("pseudo-dataset"), recipe.pseudo_dataset,
          fmt::join(known, ", "));
  const int64_t images = recipe.batch_size / recipe.micro_batches;
  const int64_t pseudo = pseudo_images(recipe, images);
  require(!some || (pseudo > 0 && pseudo < images),
          "{}: {} of {} images is {}; there must be images of both kinds in a batch",
          where("pseudo-share"), format_real(recipe.pseudo_share), images, pseudo);
}

}  // namespace

void check_range(const RecipeField& field, double value, std::string_view what) {
  const Range& range = field.range;
  const bool inside = (range.high_open ? value < range.high : value <= range.high) &&
                      (range.low_open ? value > range.low : value >= range.low);
  require(inside, "{}: {} is out of range; give a number {} {} {} {}", what, format_real(value),
          range.low_open ? "above" : "from", format_real(range.low),
          range.high_open  ? "and below"
          : range.low_open ? "and at most"
                           : "to",
          format_real(range.high));
}

void check_field(const Recipe& recipe, const RecipeField& field, std::string_view what) {
  if (auto* text = std::get_if<std::string Recipe::*>(&field.member))
    return check_text(field, recipe.**text, what);
  if (auto* narrow = std::get_if<int Recipe::*>(&field.member))
    return check_range(field, recipe.**narrow, what);
  if (auto* wide = std::get_if<int64_t Recipe::*>(&field.member))
    return check_range(field, static_cast<double>(recipe.**wide), what);
  if (auto* large = std::get_if<uint64_t Recipe::*>(&field.member))
    return check_range(field, static_cast<double>(recipe.**large), what);
  if (auto* real = std::get_if<double Recipe::*>(&field.member))
    return check_range(field, recipe.**real, what);
  if (auto* list = std::get_if<std::vector<double> Recipe::*>(&field.member))
    for (const double value : recipe.**list) check_range(field, value, what);
}

void require_eps_in_range(std::string_view what, const std::string& norm, double eps) {
  require(eps >= 0, "{}: {} is negative; a distance is 0 or more", what, format_real(eps));
  if (norm != "Linf" || eps <= 1) return;
  const bool grey_levels = eps <= 255;
  fail("{}: {} is more than 1, but pixels are in [0, 1]; {}", what, format_real(eps),
       grey_levels ? fmt::format("for {0} grey levels write {0}/255", format_real(eps))
                   : "write grey levels as a fraction, such as 8/255");
}

void check_together(const Recipe& recipe,
                    const std::function<std::string(const std::string& key)>& where) {
  require(!recipe.data_dir.empty(),
          "{} is missing; name the folder that holds the data set's files (--data-dir FOLDER)",
          where("data-dir"));
  check_pseudo(recipe, where);
  require(!recipe.output.empty(), "{} is empty; name the run folder to create", where("output"));
  require_eps_in_range(where("eps"), recipe.norm, recipe.eps);
  require_eps_in_range(where("attack-alpha"), recipe.norm, recipe.attack_alpha);
  require(recipe.method == "standard" || recipe.eps > 0,
          "{} is 0, which leaves the attack of method '{}' nothing to do; write 8/255, or choose "
          "method standard",
          where("eps"), recipe.method);
  require(recipe.natural_weight >= 0 || recipe.natural_weight == -1,
          "{}: {} is negative; give a weight from 0, or -1 for that of the method's source",
          where("natural-weight"), format_real(recipe.natural_weight));
  require(recipe.probe_every == 0 || recipe.probe_samples <= recipe.hold_out,
          "{}: the probe's {} images are more than the {} held out; lower it, raise hold-out, or "
          "switch the probe off with probe-every 0",
          where("probe-samples"), recipe.probe_samples, recipe.hold_out);
  require(recipe.augment != "random-resized-crop" || has_encoded_images(recipe.dataset),
          "{}: random-resized-crop is for images in files (image-folder, webdataset), not for {}; "
          "choose crop-flip",
          where("augment"), recipe.dataset);
  require(recipe.opt_betas.size() == 2, "{} has {} numbers; give two, as in 0.9, 0.999",
          where("opt-betas"), recipe.opt_betas.size());
  const bool with_momentum = recipe.opt == "sgd" || recipe.opt == "lars";
  require(!recipe.nesterov || !with_momentum || recipe.momentum > 0,
          "{} needs momentum above 0; set momentum 0.9 or nesterov false", where("nesterov"));
  const double momentum = with_momentum ? recipe.momentum : recipe.opt_betas.front();
  require(recipe.low_momentum <= momentum,
          "{}: {} is more than the momentum of {} that it comes down from", where("low-momentum"),
          format_real(recipe.low_momentum), format_real(momentum));
  const bool layer_wise = recipe.opt == "lars" || recipe.opt == "lamb";
  require(
      !layer_wise || recipe.weight_decay == 0 || recipe.decay_all == recipe.trust_all,
      "{}: {} treats norm parameters and biases like filters or leaves out both their decay and "
      "their trust ratio; set decay-all and trust-all alike",
      where("decay-all"), recipe.opt);
  require(recipe.batch_size % recipe.micro_batches == 0,
          "{}: a batch of {} cannot be cut into {} equal parts", where("micro-batches"),
          recipe.batch_size, recipe.micro_batches);
  require(
      recipe.micro_batches == 1 || recipe.awp_gamma == 0,
      "{}: weight perturbation needs the gradient of the whole batch at once; set awp-gamma 0 or "
      "micro-batches 1",
      where("micro-batches"));
  require(std::is_sorted(recipe.decay_milestones.begin(), recipe.decay_milestones.end()),
          "{} must increase, as in 0.5, 0.75", where("decay-milestones"));
  const double peak = peak_lr(recipe);
  require(peak <= 1000, "{}: batches of {} make a learning rate of {}; it can be 1000 at most",
          where("lr-base-size"), recipe.batch_size, format_real(peak));
  require((recipe.sched != "cosine" && recipe.sched != "polynomial") || recipe.min_lr <= peak,
          "{}: {} is more than lr {}; a {} schedule goes down", where("min-lr"),
          format_real(recipe.min_lr), format_real(peak), recipe.sched);
  check_device(recipe.device, where("device"));
}

}  // namespace ringfort
