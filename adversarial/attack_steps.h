// The parts an attack loop is made of, shared by training (attack.cpp) and evaluation
// (attack_evaluation.cpp).
#pragma once

#include "adversarial/attack.h"
#include "kernels/philox.h"

namespace ringfort {

// The pass in which an attack asks its question: input gradient only.
PassOptions attack_pass(const AttackOptions& options);

// The key of an attack's random starts; stream: the epoch of training or the restart of an
// evaluation, which varies the noise.
RandomKey attack_key(const AttackOptions& options, uint32_t stream);

// Writes a starting point into x_adv. samples: on the device.
void take_start(Exec& exec, const AttackOptions& options, AttackStart start, View x_adv, View x_nat,
                const RandomKey& key, const int64_t* samples);

// One projected ascent step on x_adv.
void take_step(Exec& exec, const AttackOptions& options, View x_adv, View grad, View x_nat);

struct InputGradient {
  Tensor dx;          // of the summed objective
  Tensor loss;        // (N)
  Tensor prediction;  // (N) int32
  int64_t weight_gradients = 0;
};

// What an objective compares a network's logits with.
struct AttackReference {
  Tensor labels = {};          // (N) int32
  Tensor natural_logits = {};  // (N, K), of x_nat: kDivergence only
  Mixture mixture = {};
};

// The logits of x_nat as the attack's passes compute them.
Tensor natural_logits(Exec& exec, Pool& pool, Model& model, const AttackOptions& options,
                      const Tensor& x_nat);

// One question to the model: the gradient of the summed loss with respect to the pixels; with
// Wrt::kNothing only losses and predictions, and no dx.
InputGradient input_gradient(Exec& exec, Pool& pool, Model& model, const AttackOptions& options,
                             const Tensor& x_adv, const AttackReference& reference,
                             Wrt wrt = Wrt::kInput);

// Value, gradient and prediction of the objective, summed over the batch.
Loss attack_objective(Pass& p, AttackObjective objective, const Var& logits,
                      const AttackReference& reference);

// Room for the mixture of so many images, and a copy of one; without one nothing is copied.
Mixture empty_mixture(Pool& pool, int64_t count);
void copy_mixture(Exec& exec, const Mixture& to, const Mixture& from);

void require_valid(const AttackOptions& options, const AttackInput& input);

}  // namespace ringfort
