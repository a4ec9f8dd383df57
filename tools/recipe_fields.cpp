// The table of recipe fields. Key names are timm's and torchattacks' where they have one.
#include "engine/data/dataset.h"
#include "models/model.h"
#include "tools/recipe_file.h"

namespace ringfort {
namespace {

constexpr double kMaxCount = 1e12;
constexpr double kMaxSeed = 9223372036854774784.0;  // below 2^63: TOML's integers are signed

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const ModelEntry& entry : model_registry()) names.emplace_back(entry.name);
  return names;
}

std::vector<std::string> names_of(std::span<const std::string_view> names) {
  return {names.begin(), names.end()};
}

// clang-format off
std::vector<RecipeField> data_and_model_fields() {
  return {
      {"data", "dataset", &Recipe::dataset, "data set", {}, names_of(dataset_names())},
      {"data", "data-dir", &Recipe::data_dir, "folder that holds the data set's files"},
      {"data", "hold-out", &Recipe::hold_out,
       "training images kept aside to choose the best checkpoint", {0, kMaxCount}},
      {"data", "augment", &Recipe::augment, "augmentation of training images", {},
       {"none", "crop-flip", "random-resized-crop"}},
      {"data", "crop-pad", &Recipe::crop_pad, "pixels of zero padding before the random crop",
       {0, 64}},
      {"data", "cutout", &Recipe::cutout,
       "side of a square of zeros in each training image; 0: none", {0, 4096}},
      {"data", "mixup", &Recipe::mixup,
       "images and labels are mixed in pairs, by a share from Beta(this, this); 0: not", {0, 1000}},
      {"data", "image-size", &Recipe::image_size,
       "side of the squares that images in files become", {8, kMaxImageSize}},
      {"data", "workers", &Recipe::workers,
       "threads that decode images in files; 0: as many as threads", {0, 4096}},
      {"data", "pseudo-dataset", &Recipe::pseudo_dataset,
       "data set whose training images stand in every batch with labels that a model made"},
      {"data", "pseudo-data-dir", &Recipe::pseudo_data_dir, "folder that holds its files"},
      {"data", "pseudo-labels", &Recipe::pseudo_labels,
       "file of those labels, made by ringfort pseudo-label"},
      {"data", "pseudo-share", &Recipe::pseudo_share, "their share of each batch",
       {0, 1, true, true}},
      {"data", "pseudo-confidence", &Recipe::pseudo_confidence,
       "the least confidence with which a label is trained on", {0, 1}},
      {"model", "model", &Recipe::model, "network", {}, model_names()},
      {"model", "width", &Recipe::width, "channels of the first stage; 0: the model's own default",
       {0, 4096}},
      {"model", "auxiliary-norms", &Recipe::auxiliary_norms,
       "trades, dat: attacked images have batch norms of their own, which are also what is "
       "validated: true or false"},
      {"model", "init", &Recipe::init,
       "checkpoint whose weights, statistics and normalisation training starts from"},
  };
}

std::vector<RecipeField> attack_fields() {
  return {
      {"attack", "method", &Recipe::method, "training method", {},
       {"standard", "pgd-at", "fast-at", "trades", "dat", "dat-fgsm"}},
      {"attack", "norm", &Recipe::norm, "norm of the perturbation", {}, {"Linf", "L2"}},
      {"attack", "eps", &Recipe::eps, "radius of the ball, pixels in [0, 1]: 8/255", {0, 1e4}},
      {"attack", "attack-alpha", &Recipe::attack_alpha,
       "step size of the training attack; 0: as the method's source", {0, 1e4}},
      {"attack", "attack-steps", &Recipe::attack_steps,
       "steps of the training attack; 0: as the method's source", {0, 10000}},
      {"attack", "attack-bn", &Recipe::attack_bn,
       "batch norm in the attack, by running statistics (eval) or the batch's (train, train-track)",
       {}, {"default", "eval", "train", "train-track"}},
      {"attack", "beta", &Recipe::beta, "trades: weight of the KL divergence", {0, 1e4}},
      {"attack", "natural-weight", &Recipe::natural_weight,
       "dat, dat-fgsm: weight of the images' own cross-entropy; -1: as the method's source",
       {-1, 1e4}},
      {"attack", "label-smoothing", &Recipe::label_smoothing,
       "share of each label that is spread over all classes", {0, 1, false, true}},
      {"attack", "awp-gamma", &Recipe::awp_gamma,
       "adversarial weight perturbation, relative to each filter's norm; 0: none", {0, 1}},
      {"attack", "awp-warmup", &Recipe::awp_warmup, "epochs before weights are perturbed",
       {0, 1e6}},
  };
}

std::vector<RecipeField> optimizer_fields() {
  return {
      {"optimizer", "epochs", &Recipe::epochs, "passes over the training images", {1, 1e6}},
      {"optimizer", "max-steps", &Recipe::max_steps,
       "train this many steps at most, with the schedule over them; 0: all epochs", {0, kMaxCount}},
      {"optimizer", "batch-size", &Recipe::batch_size, "images per step, of all ranks together",
       {1, 1e6}},
      {"optimizer", "batch-per-rank", &Recipe::batch_per_rank,
       "images per step and rank, in place of batch-size; 0: batch-size is shared out", {0, 1e6}},
      {"optimizer", "micro-batches", &Recipe::micro_batches,
       "parts into which a step's images are cut, their gradients averaged", {1, 1e6}},
      {"optimizer", "opt", &Recipe::opt, "optimizer", {}, {"sgd", "lars", "adam", "adamw", "lamb"}},
      {"optimizer", "lr", &Recipe::lr, "peak learning rate", {0, 1000, true}},
      {"optimizer", "lr-base-size", &Recipe::lr_base_size,
       "lr is for batches of this size and is scaled to batch-size; 0: lr is as it is", {0, 1e6}},
      {"optimizer", "lr-base-scale", &Recipe::lr_base_scale, "how lr is scaled to batch-size", {},
       {"linear", "sqrt"}},
      {"optimizer", "momentum", &Recipe::momentum, "momentum of SGD and LARS, below 1",
       {0, 1, false, true}},
      {"optimizer", "low-momentum", &Recipe::low_momentum,
       "cyclic, one-cycle: momentum, or beta1, where lr peaks; 0: it stays", {0, 1, false, true}},
      {"optimizer", "nesterov", &Recipe::nesterov, "Nesterov momentum: true or false"},
      {"optimizer", "weight-decay", &Recipe::weight_decay, "weight decay", {0, 10}},
      {"optimizer", "decay-all", &Recipe::decay_all,
       "weight decay on norm parameters and biases too: true or false"},
      {"optimizer", "clip-grad", &Recipe::clip_grad,
       "a gradient longer than this is scaled down to it; 0: none is", {0, 1e6}},
      {"optimizer", "opt-betas", &Recipe::opt_betas,
       "adam, adamw, lamb: decay of the means of the gradient and of its square",
       {0, 1, false, true}},
      {"optimizer", "opt-eps", &Recipe::opt_eps,
       "what is added to a norm that is divided by; 0: as the optimizer's source", {0, 1}},
      {"optimizer", "bias-correction", &Recipe::bias_correction,
       "adam, adamw, lamb: correct the means for their start at 0: true or false"},
      {"optimizer", "trust-coefficient", &Recipe::trust_coefficient,
       "lars: a layer's step relative to its norm, at lr 1", {0, 1000, true}},
      {"optimizer", "trust-all", &Recipe::trust_all,
       "lars, lamb: trust ratios for norm parameters and biases too: true or false"},
      {"optimizer", "trust-clip", &Recipe::trust_clip,
       "lamb: what the norm of a layer's weights counts at most; 0: as it is", {0, 1e6}},
      {"optimizer", "sched", &Recipe::sched, "learning-rate schedule", {},
       {"constant", "piecewise", "cyclic", "cosine", "one-cycle", "polynomial"}},
      {"optimizer", "sched-power", &Recipe::sched_power, "polynomial: the power", {0, 100, true}},
      {"optimizer", "div-factor", &Recipe::div_factor, "one-cycle: lr begins at lr / this",
       {1, 1e12}},
      {"optimizer", "final-div-factor", &Recipe::final_div_factor,
       "one-cycle: lr ends at its beginning / this", {1, 1e12}},
      {"optimizer", "sched-peak", &Recipe::sched_peak,
       "cyclic, one-cycle: share of training at which the learning rate peaks", {0.001, 0.999}},
      {"optimizer", "decay-milestones", &Recipe::decay_milestones,
       "piecewise: shares of training at which the learning rate drops", {0, 1}},
      {"optimizer", "decay-rate", &Recipe::decay_rate, "piecewise: factor at each milestone",
       {0, 1, true}},
      {"optimizer", "warmup-epochs", &Recipe::warmup_epochs,
       "epochs of warm-up: the schedule's rate is scaled up linearly over them", {0, 1e6}},
      {"optimizer", "min-lr", &Recipe::min_lr, "cosine, polynomial: final learning rate", {0, 1000}},
      {"optimizer", "ema-decay", &Recipe::ema_decay,
       "average the weights with this decay, and validate and keep the average; 0: no",
       {0, 1, false, true}},
      {"optimizer", "ema-warmup", &Recipe::ema_warmup,
       "share of training over which the average is the weights themselves", {0, 1}},
      {"optimizer", "ema-statistics", &Recipe::ema_statistics,
       "running statistics of the average: those of the weights, or estimated anew", {},
       {"live", "re-estimate"}},
  };
}

std::vector<RecipeField> controller_fields() {
  return {
      {"controller", "probe-every", &Recipe::probe_every,
       "steps between collapse probes; 0: no probe", {0, kMaxCount}},
      {"controller", "probe-samples", &Recipe::probe_samples, "held-out images of the probe",
       {1, kMaxCount}},
      {"controller", "collapse-drop", &Recipe::collapse_drop,
       "collapse: the probe falls this far below its best, or below half of it by more than noise",
       {0, 1, true}},
      {"controller", "on-collapse", &Recipe::on_collapse, "what to do then", {},
       {"stop", "restore", "continue"}},
      {"controller", "val-attack-steps", &Recipe::val_attack_steps,
       "PGD steps on the held-out images at each epoch's end", {1, 10000}},
      {"controller", "max-skipped", &Recipe::max_skipped,
       "steps without a finite loss and gradient, which change nothing, before training stops",
       {0, 1e9}},
      {"controller", "save-every", &Recipe::save_every,
       "steps between saved states, for --resume; 0: only where a signal stops it", {0, kMaxCount}},
  };
}

std::vector<RecipeField> distributed_fields() {
  return {
      {"distributed", "compressor", &Recipe::compressor,
       "how gradients travel between ranks: none, fp16, bf16, qsgd, natural, natural-dithering, "
       "sign-majority, ef-sign, terngrad, top-k, random-k, power-sgd; top-k+natural: what is kept "
       "in a second encoding"},
      {"distributed", "compressor-bits", &Recipe::compressor_bits,
       "qsgd, natural-dithering: bits per element; 0: 8 and 4", {0, 8}},
      {"distributed", "compressor-bucket", &Recipe::compressor_bucket,
       "elements that share a scale, or of which a share is kept; 0: the compressor's usual",
       {0, kMaxCount}},
      {"distributed", "compressor-norm", &Recipe::compressor_norm,
       "qsgd, natural-dithering: what elements are multiples of", {}, {"max", "l2"}},
      {"distributed", "compressor-share", &Recipe::compressor_share,
       "top-k, random-k: share of the elements that travel", {0, 1, true}},
      {"distributed", "compressor-rank", &Recipe::compressor_rank,
       "power-sgd: rank of the factors", {1, 1024}},
      {"distributed", "error-feedback", &Recipe::error_feedback,
       "what was left out is added to the next gradient; default: where the compressor needs it",
       {}, {"default", "true", "false"}},
      {"distributed", "exchange", &Recipe::exchange,
       "algorithm that adds gradients up; auto: the fastest by the cost model", {},
       {"auto", "ring", "sra", "gather"}},
      {"distributed", "hierarchy", &Recipe::hierarchy,
       "hosts: sums inside a machine first, then between machines; flat: between all ranks alike",
       {}, {"hosts", "flat"}},
      {"distributed", "bucket-mb", &Recipe::bucket_mb,
       "MB of gradient that are exchanged together, while backward goes on", {0, 1e5, true}},
      {"distributed", "norm-statistics", &Recipe::norm_statistics,
       "batch norms of the training pass see a rank's own images or those of all", {},
       {"local", "joint"}},
      {"distributed", "comm", &Recipe::comm, "what carries messages between ranks", {},
       {"auto", "threads", "mpi", "nccl"}},
      {"distributed", "comm-timeout", &Recipe::comm_timeout,
       "seconds that a rank waits for another before it gives up", {0, 1e6, true}},
  };
}

std::vector<RecipeField> machine_fields() {
  return {
      {"machine", "dtype", &Recipe::dtype, "numbers of the training pass", {},
       {"float32", "bfloat16"}},
      {"machine", "attack-dtype", &Recipe::attack_dtype,
       "numbers of the attack passes; default: as dtype", {}, {"default", "float32", "bfloat16"}},
      {"machine", "tf32", &Recipe::tf32,
       "on a GPU, float32 products may round their operands to TF32: true or false"},
      {"machine", "device", &Recipe::device, "auto, cpu, cuda or cuda:N"},
      {"machine", "seed", &Recipe::seed, "seed of every random number", {0, kMaxSeed}},
      {"machine", "threads", &Recipe::threads, "CPU threads; 0: all cores", {0, 4096}},
      {"machine", "log-every", &Recipe::log_every, "steps between records in metrics.jsonl",
       {1, kMaxCount}},
      {"machine", "output", &Recipe::output, "run folder to create"},
  };
}
// clang-format on

std::vector<RecipeField> all_fields() {
  std::vector<RecipeField> all;
  for (auto part : {data_and_model_fields, attack_fields, optimizer_fields, controller_fields,
                    distributed_fields, machine_fields})
    for (RecipeField& field : part()) all.push_back(std::move(field));
  return all;
}

}  // namespace

std::span<const RecipeField> recipe_fields() {
  static const std::vector<RecipeField> fields = all_fields();
  return fields;
}

}  // namespace ringfort
