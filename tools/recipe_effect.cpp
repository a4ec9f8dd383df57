// Which keys of a recipe only count under others. That a key reaches training at all is
// tests/training_fields_test.cpp's matter.
#include <algorithm>
#include <array>

#include "engine/data/dataset.h"
#include "tools/recipe_file.h"

namespace ringfort {
namespace {

struct Condition {
  std::string_view words;
  bool (*holds)(const Recipe& recipe);
};

const Condition kImageFiles = {"images in files",
                               [](const Recipe& r) { return has_encoded_images(r.dataset); }};
const Condition kCropFlip = {"augment crop-flip",
                             [](const Recipe& r) { return r.augment == "crop-flip"; }};
const Condition kAttack = {"methods with an attack",
                           [](const Recipe& r) { return r.method != "standard"; }};
const Condition kTrades = {"method trades", [](const Recipe& r) { return r.method == "trades"; }};
const Condition kDat = {"method dat and dat-fgsm",
                        [](const Recipe& r) { return r.method.starts_with("dat"); }};
bool compresses_by(const Recipe& recipe, std::initializer_list<std::string_view> names) {
  return std::any_of(names.begin(), names.end(), [&](std::string_view name) {
    return recipe.compressor.find(name) != std::string::npos;
  });
}
const Condition kLevels = {"compressor qsgd and natural-dithering", [](const Recipe& r) {
                             return compresses_by(r, {"qsgd", "natural-dithering"});
                           }};
const Condition kSparse = {"compressor top-k and random-k", [](const Recipe& r) {
                             return compresses_by(r, {"top-k", "random-k"});
                           }};
const Condition kLowRank = {"compressor power-sgd",
                            [](const Recipe& r) { return compresses_by(r, {"power-sgd"}); }};
const Condition kAwp = {"awp-gamma above 0", [](const Recipe& r) { return r.awp_gamma > 0; }};
const Condition kScaledLr = {"lr-base-size above 0",
                             [](const Recipe& r) { return r.lr_base_size > 0; }};
const Condition kMomentum = {"opt sgd and lars",
                             [](const Recipe& r) { return r.opt == "sgd" || r.opt == "lars"; }};
const Condition kAdaptive = {"opt adam, adamw and lamb", [](const Recipe& r) {
                               return r.opt.starts_with("adam") || r.opt == "lamb";
                             }};
const Condition kWithEps = {"any opt but sgd", [](const Recipe& r) { return r.opt != "sgd"; }};
const Condition kLars = {"opt lars", [](const Recipe& r) { return r.opt == "lars"; }};
const Condition kLamb = {"opt lamb", [](const Recipe& r) { return r.opt == "lamb"; }};
const Condition kTrust = {"opt lars and lamb",
                          [](const Recipe& r) { return r.opt == "lars" || r.opt == "lamb"; }};
const Condition kDecay = {"weight-decay above 0",
                          [](const Recipe& r) { return r.weight_decay > 0; }};
const Condition kCycle = {"sched cyclic and one-cycle", [](const Recipe& r) {
                            return r.sched == "cyclic" || r.sched == "one-cycle";
                          }};
const Condition kOneCycle = {"sched one-cycle",
                             [](const Recipe& r) { return r.sched == "one-cycle"; }};
const Condition kPolynomial = {"sched polynomial",
                               [](const Recipe& r) { return r.sched == "polynomial"; }};
const Condition kPiecewise = {"sched piecewise",
                              [](const Recipe& r) { return r.sched == "piecewise"; }};
const Condition kFalling = {"sched cosine and polynomial", [](const Recipe& r) {
                              return r.sched == "cosine" || r.sched == "polynomial";
                            }};
const Condition kAverage = {"ema-decay above 0", [](const Recipe& r) { return r.ema_decay > 0; }};
const Condition kProbe = {"probe-every above 0 and images held out",
                          [](const Recipe& r) { return r.probe_every > 0 && r.hold_out > 0; }};
const Condition kCollapse = {"methods with an attack, probe-every above 0 and images held out",
                             [](const Recipe& r) { return kAttack.holds(r) && kProbe.holds(r); }};
const Condition kHeldOut = {"hold-out above 0", [](const Recipe& r) { return r.hold_out > 0; }};

struct Conditional {
  std::string_view key;
  const Condition& counts;
};

const std::array kConditional = {
    Conditional{"image-size", kImageFiles},
    Conditional{"workers", kImageFiles},
    Conditional{"crop-pad", kCropFlip},
    Conditional{"attack-alpha", kAttack},
    Conditional{"attack-steps", kAttack},
    Conditional{"attack-bn", kAttack},
    Conditional{"beta", kTrades},
    Conditional{"natural-weight", kDat},
    Conditional{"awp-warmup", kAwp},
    Conditional{"lr-base-scale", kScaledLr},
    Conditional{"momentum", kMomentum},
    Conditional{"nesterov", kMomentum},
    Conditional{"low-momentum", kCycle},
    Conditional{"decay-all", kDecay},
    Conditional{"opt-betas", kAdaptive},
    Conditional{"opt-eps", kWithEps},
    Conditional{"bias-correction", kAdaptive},
    Conditional{"trust-coefficient", kLars},
    Conditional{"trust-all", kTrust},
    Conditional{"trust-clip", kLamb},
    Conditional{"sched-peak", kCycle},
    Conditional{"sched-power", kPolynomial},
    Conditional{"div-factor", kOneCycle},
    Conditional{"final-div-factor", kOneCycle},
    Conditional{"decay-milestones", kPiecewise},
    Conditional{"decay-rate", kPiecewise},
    Conditional{"min-lr", kFalling},
    Conditional{"ema-warmup", kAverage},
    Conditional{"ema-statistics", kAverage},
    Conditional{"probe-samples", kProbe},
    Conditional{"collapse-drop", kCollapse},
    Conditional{"on-collapse", kCollapse},
    Conditional{"val-attack-steps", kHeldOut},
    Conditional{"compressor-bits", kLevels},
    Conditional{"compressor-norm", kLevels},
    Conditional{"compressor-share", kSparse},
    Conditional{"compressor-rank", kLowRank},
};

}  // namespace

std::vector<WithoutEffect> without_effect(const Recipe& recipe) {
  const Recipe defaults;
  std::vector<WithoutEffect> all;
  for (const RecipeField& field : recipe_fields()) {
    const auto found = std::find_if(kConditional.begin(), kConditional.end(),
                                    [&](const Conditional& c) { return c.key == field.key; });
    if (found == kConditional.end() || found->counts.holds(recipe)) continue;
    const std::string value = toml_value(recipe, field);
    if (value != toml_value(defaults, field))
      all.push_back({field.key, value, std::string(found->counts.words)});
  }
  return all;
}

}  // namespace ringfort
