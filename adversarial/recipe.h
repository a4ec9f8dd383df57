// Recipe: everything that decides a training run. Plain data with the defaults in place;
// tools/recipe_file reads it from TOML and from flags, and writes it back fully resolved. Names are
// timm's and torchattacks' where they have one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ringfort {

struct Recipe {
  // data
  std::string dataset = "fashion-mnist";
  std::string data_dir;
  int64_t hold_out = 1000;  // training images kept for choosing the best checkpoint
  // none | crop-flip | random-resized-crop (of images in files, with flips)
  std::string augment = "none";
  int crop_pad = 4;  // pixels of zero padding on each side before the random crop
  double mixup = 0;  // alpha of Beta(alpha, alpha), the share of an image in its mixture; 0: none
  int cutout = 0;    // side in pixels of a square of zeros in each training image; 0: none
  int image_size = 224;  // side of the squares that images in files become
  int workers = 0;       // threads that decode images in files; 0: as many as threads
  // Images of another data set with labels that a model made for them (ringfort pseudo-label):
  // which, where, the file of the labels; empty: none
  std::string pseudo_dataset, pseudo_data_dir, pseudo_labels;
  double pseudo_share = 0.5;     // of each batch
  double pseudo_confidence = 0;  // that a label must have at least

  // model
  std::string model = "cnn_small";
  int width = 0;  // channels of the first stage; 0: the model's own default
  // Batch norms with a second set, through which attacked images go (Xie et al. 2020): trades, dat
  bool auxiliary_norms = false;
  std::string init;  // checkpoint to start from, with its normalisation; empty: random weights

  // method: "standard", "pgd-at" (Madry et al. 2018), "fast-at" (Wong et al. 2020), "trades"
  // (Zhang et al. 2019), "dat" or "dat-fgsm" (Zhang et al. 2022)
  std::string method = "fast-at";
  std::string norm = "Linf";
  double eps = 8.0 / 255;
  double attack_alpha =
      0;  // step size; 0: the method's source (fast-at 1.25 eps, pgd-at 2.5 eps / steps)
  int attack_steps = 0;  // 0: the method's source (fast-at and dat-fgsm 1, the others 10)
  std::string attack_bn =
      "default";  // default | eval | train | train-track; default: the method's source

  double beta = 6;  // trades: weight of the KL divergence
  // dat, dat-fgsm: weight of the images' own cross-entropy beside that of the attacked ones; -1:
  // the method's source (dat 1, dat-fgsm 0)
  double natural_weight = -1;
  double label_smoothing = 0;  // of the cross-entropy in the training pass
  // Adversarial weight perturbation (Wu et al. 2020) on top of any method: its size relative to the
  // norm of each filter and matrix; 0: none. And the epochs before it begins.
  double awp_gamma = 0, awp_warmup = 0;

  // optimisation
  int epochs = 15;
  int64_t max_steps = 0;    // 0: all epochs; otherwise the schedule spans no more than these steps
  int batch_size = 128;     // images per step, of all ranks together
  int batch_per_rank = 0;   // images per step and rank; 0: batch_size by the ranks
  int micro_batches = 1;    // into which a step's batch is cut: gradient accumulation
  std::string opt = "sgd";  // sgd | lars | adam | adamw | lamb
  double lr = 0.1;          // peak learning rate
  // lr is for batches of this size and is scaled to batch-size, linearly or by the root; 0: as it
  // is
  int lr_base_size = 0;
  std::string lr_base_scale = "linear";  // linear | sqrt
  double momentum = 0.9;                 // sgd, lars
  double low_momentum = 0;  // cyclic, one-cycle: momentum (or beta1) where lr peaks; 0: it stays
  bool nesterov = false;
  double weight_decay = 5e-4;
  double clip_grad = 0;   // the longest the gradient may be, else it is scaled; 0: any
  bool decay_all = true;  // weight decay on norm parameters and biases too
  std::vector<double> opt_betas = {0.9, 0.999};  // adam, adamw, lamb
  double opt_eps = 0;                            // 0: as the optimizer's source
  bool bias_correction = true;                   // adam, adamw, lamb
  double trust_coefficient = 0.001;              // lars
  bool trust_all = false;  // lars, lamb: trust ratios for norm parameters and biases too
  double trust_clip = 0;   // lamb: what the norm of a filter or matrix counts at most; 0: as it is
  // constant | piecewise | cyclic | cosine | one-cycle | polynomial
  std::string sched = "cyclic";
  double sched_peak = 0.4;        // cyclic, one-cycle: share of training at which lr peaks
  double sched_power = 2;         // polynomial
  double div_factor = 25;         // one-cycle: it begins at lr / this ...
  double final_div_factor = 1e4;  // ... and ends at that / this
  std::vector<double> decay_milestones = {0.5, 0.75};  // piecewise: shares of training
  double decay_rate = 0.1;                             // piecewise: factor at each milestone
  double warmup_epochs = 0;  // the schedule's rate is scaled up linearly over these
  double min_lr = 0;         // cosine, polynomial: where it ends
  // Exponential moving average of the weights, which is what is validated and kept; 0: none. Before
  // this share of training the average is the weights.
  double ema_decay = 0, ema_warmup = 0.025;
  // Running statistics of the averaged weights: live | re-estimate
  std::string ema_statistics = "live";

  // controller
  int64_t probe_every = 200;         // steps between collapse probes; 0: no probe
  int64_t probe_samples = 256;       // held-out images of the probe
  double collapse_drop = 0.2;        // collapse: probe accuracy falls this far below its best
  std::string on_collapse = "stop";  // stop | restore | continue
  int val_attack_steps = 10;         // held-out PGD at each epoch's end
  int max_skipped = 10;              // steps without a finite gradient after which training stops
  int64_t save_every = 1000;         // steps between saved states; 0: only where it is stopped

  // ranks: how their gradients are exchanged (distributed/compressor.h)
  std::string compressor = "none";
  int compressor_bits = 0;                 // 0: the compressor's usual
  int64_t compressor_bucket = 0;           // elements with one scale; 0: the compressor's usual
  std::string compressor_norm = "max";     // max | l2
  double compressor_share = 0.01;          // top-k, random-k
  int compressor_rank = 2;                 // power-sgd
  std::string error_feedback = "default";  // default (where it is needed) | true | false
  std::string exchange = "auto";           // auto | ring | sra | gather
  std::string hierarchy = "hosts";         // hosts | flat
  double bucket_mb = 25;                   // of the gradient, exchanged while backward goes on
  std::string norm_statistics = "local";  // local | joint: whose images batch norms see in training
  std::string comm = "auto";              // auto | threads | mpi | nccl
  double comm_timeout = 600;              // seconds that ranks wait for each other

  // numbers and machine
  std::string dtype = "float32";         // float32 | bfloat16
  std::string attack_dtype = "default";  // default: as dtype
  bool tf32 = false;            // on a GPU: float32 products may round their operands to TF32
  std::string device = "auto";  // auto | cpu | cuda | cuda:N
  uint64_t seed = 0;
  int threads = 0;         // 0: all cores
  int64_t log_every = 50;  // steps between log lines
  std::string output = "runs/latest";
};

}  // namespace ringfort
