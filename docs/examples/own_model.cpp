// A network of one's own: trained, kept in a checkpoint, loaded and evaluated under PGD like those
// that Ringfort knows.
//   own_model RUN_FOLDER
#include <fmt/format.h>

#include <filesystem>

#include "adversarial/evaluate.h"
#include "adversarial/trainer.h"
#include "bars.h"
#include "models/checkpoint.h"
#include "models/layers.h"

using namespace ringfort;

// A convolution, two branches that are added, and a classifier on what is left after pooling. The
// constructor declares the layers in the order in which body() uses them: what has parameters gets
// a name, the rest are functions (engine/ops/ops.h). Their gradients come with them.
class TwoBranches final : public Model {
 public:
  TwoBranches(ModelSpec given, Dtype master) : Model(std::move(given), master) {
    LayerBuilder build(params());
    const int64_t width = spec().width;
    stem_ = build.conv_with_bias("stem", spec().channels, width, 3, 1);
    narrow_ = build.conv("narrow", width, width, 1, 1);
    wide_ = build.conv("wide", width, width, 5, 1);
    norm_ = build.norm("norm", width);
    const Shape pooled{1, spec().height / 4, spec().image_width / 4, width};
    classifier_ = build.linear_of_image("classifier", pooled, spec().classes);
  }

 private:
  // x: the normalised images (N, H, W, C) -> logits (N, classes).
  Var body(Pass& p, Var x) override {
    x = conv2d_bias(p, std::move(x), stem_, Activation::kRelu);
    Var narrow = conv2d(p, x, narrow_);
    x = conv2d_add(p, std::move(x), wide_, std::move(narrow));
    x = batch_norm(p, std::move(x), norm_, Activation::kRelu);
    x = avg_pool(p, std::move(x), {.size = 4, .stride = 4});
    return linear(p, flatten(p, std::move(x)), classifier_, Activation::kNone, logits_dtype(p));
  }

  ConvParams stem_, narrow_, wide_;
  NormParams norm_;
  LinearParams classifier_;
};

int main(int argc, char** argv) try {
  require(argc == 2, "give the folder for the checkpoints: {} FOLDER", argv[0]);
  // From here on recipes and checkpoints know it by name. 8: its width where a recipe says none.
  register_model({"two_branches", 8, "two branches of an image", [](ModelSpec spec, Dtype master) {
                    return std::unique_ptr<Model>(new TwoBranches(std::move(spec), master));
                  }});
  Exec exec;
  const Dataset training = bars(1200, 1), test = bars(200, 2);
  Recipe recipe;
  recipe.model = "two_branches";
  recipe.method = "fast-at";  // Wong et al. 2020
  recipe.eps = 0.05;
  recipe.epochs = 8;
  recipe.batch_size = 50;
  recipe.hold_out = 200;
  std::filesystem::create_directories(argv[1]);
  TrainingObserver silent;
  Trainer(exec, recipe, training).run(argv[1], silent);

  const LoadedModel loaded = load_checkpoint(exec, argv[1] + std::string("/best.safetensors"));
  EvaluateOptions options;
  options.attack = pgd({.norm = Norm::kLinf, .eps = recipe.eps}, 20, recipe.eps / 4);
  Pool pool;
  const Evaluation result = evaluate(exec, pool, *loaded.model, test, options);
  fmt::print("{}: {} parameters, accuracy {:.3f}, under PGD-20 {:.3f}\n", result.model,
             loaded.model->params().parameter_count(), result.clean_accuracy,
             result.robust_accuracy);
  return result.robust_accuracy > 0.5 ? 0 : 1;  // one in four without having learnt anything
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
