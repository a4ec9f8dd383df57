#include "adversarial/weight_perturbation.h"

#include "kernels/perturb.h"

namespace ringfort {

WeightPerturbation::WeightPerturbation(ParamStore& params, double gamma)
    : params_(params), gamma_(gamma), pool_(params.device()) {
  const View master = params.flat_master();
  const Shape per_segment = vector_shape(params.segment_table().segments());
  kept_ = zeros(pool_, master.shape, master.dtype);
  perturbed_ = segment_flags(pool_, params);
  for (Tensor* numbers : {&w_squares_, &g_squares_, &factor_})
    *numbers = zeros(pool_, per_segment, Dtype::kFloat64);
}

void WeightPerturbation::perturb(Exec& exec) {
  perturb_weights(exec, params_.flat_master(), kept_, params_.flat_copy(), params_.flat_gradient(),
                  params_.segment_table(), {perturbed_, w_squares_, g_squares_, factor_}, gamma_);
  params_.master_and_copy_changed();
}

}  // namespace ringfort
