// How many kernels an attack launches, where every graph of cuDNN is fused: counted in recordings.
#include <catch2/catch.hpp>

#include "adversarial/attack.h"
#include "adversarial/input.h"
#include "tests/emulation/backends.h"
#include "tests/quarters.h"
#include "tests/test_device.h"
#include "tests/tiny_models.h"

namespace ringfort {
namespace {

// Of a recorded attack of `steps` steps on preact_resnet18.
int64_t kernels_of_attack(int steps, Dtype dtype) {
  Exec exec(kTestDevice, 1);
  Pool pool(kTestDevice);
  const auto model =
      make_model(test::tiny_spec("preact_resnet18", 8, 8, 3),
                 {.bfloat16_copy = dtype == Dtype::kBFloat16, .device = kTestDevice});
  initialize(exec, model->params(), 5);
  AttackOptions options = pgd({}, steps, 2.0 / 255);
  options.bn = AttackBn::kEval;
  options.dtype = dtype;
  TrainingAttack attack(exec, pool, *model, options);
  const Dataset data = test::quarters(2, 3);
  const AttackInput input = make_input(exec, pool, data, std::vector<int64_t>{0, 1});
  for (int run = 0; run < 2; ++run) attack.run(input);  // warms up, records
  return attack.kernels(2);
}

}  // namespace

TEST_CASE("launches: a PGD step on preact_resnet18 takes at most 50 kernels", "[engine]") {
  // 20 convolutions and as many input gradients with all that stands between them; normalisation,
  // pooling, classifier, each there and back; loss; step.
  constexpr int64_t kKernels = 2 * 20 + 2 * 3 + 1 + 1;
  // The bfloat16 stem's channels are padded before its product and cut after its gradient
  // (kernels/conv2d_cudnn.cpp), which the stand-in does not do.
  constexpr int64_t kPadding = 2;
  static_assert(kKernels + kPadding <= 50);
  emulation::fuse_epilogues(true);
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16}) {
    INFO(to_string(dtype));
    CHECK(kernels_of_attack(2, dtype) - kernels_of_attack(1, dtype) == kKernels);
  }
  emulation::fuse_epilogues(false);
}

}  // namespace ringfort
