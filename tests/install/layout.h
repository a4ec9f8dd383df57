// Size and alignment of the types that users and the library hand each other. Included by two
// translation units with different flags; everything here is their own.
#pragma once

#include <cstddef>
#include <vector>

#include "all_headers.h"

namespace {

template <class... Types>
std::vector<std::size_t> layouts() {
  return {sizeof(Types)..., alignof(Types)...};
}

inline std::vector<std::size_t> layout() {
  using namespace ringfort;
  return layouts<View, Exec, Pool, Tensor, Var, Gate, Tape, Pass, PassOptions, ParamStore, Segment,
                 Model, ModelSpec, ConvParams, LinearParams, NormParams, Dataset, Batch, Loader,
                 DeviceBatch, Feed, Graph, AttackOptions, AttackInput, AttackResult, TrainingAttack,
                 EvaluateOptions, Evaluation, Recipe, TrainingMethod, TrainingStep, Trainer,
                 RandomKey, LinfStep, SafetensorsFile>();
}

}  // namespace
