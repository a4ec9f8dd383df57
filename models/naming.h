// How the well-known PyTorch definitions of our models name their tensors, and what else is in
// their state dicts, so that `load_state_dict` takes what we write with strict=True, and we take
// what others have saved. Element order is PyTorch's already (weights.h).
//
// Every model has its source's names, so little is left to change:
//   num_batches_tracked   of every norm, an int64 scalar that PyTorch counts and never uses where
//                         the momentum is fixed: written as 0, skipped when read
//   n_averaged            of AveragedModel, how many models were averaged: skipped when read
//   torchvision           calls the shortcuts and the classifier of resnet18 otherwise; of resnet50
//                         nothing
//   trades                has a fourth group of blocks, sub_block1, in its wide ResNet, of block1's
//                         shapes, through which nothing is ever sent: written as copies of block1,
//                         skipped when read (https://github.com/yaodongyu/TRADES,
//                         models/wideresnet.py)
//   deepmind              normalises inside the network, by buffers mean and std of shape (C, 1, 1)
//                         (RobustBench's dm_wide_resnet.py); ours are written, theirs taken over
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/weights.h"

namespace ringfort {

struct Naming {
  std::string_view name;
  std::vector<std::string_view> models = {};  // that it has definitions of; none: all
  // Words between the dots of a name, ours and theirs.
  std::vector<std::pair<std::string_view, std::string_view>> words = {};
  std::string_view used_group = "", unused_group = "";  // theirs; both or none
  bool normalization = false;                           // the definition keeps mean and std

  bool defines(std::string_view model) const;
};

const std::vector<Naming>& namings();  // "ringfort", the model's own names, is the first

// Errors: an unknown name, or one without a definition of this model.
const Naming& find_naming(std::string_view name, std::string_view model);

// A state dict: the model's arrays and the definition's own, over `weights` and the model's
// specification.
struct StateDict {
  WeightArrays weights;
  std::vector<NamedArray> arrays;
};
StateDict state_dict(const Model& model, const Naming& naming);

// What a file's arrays are to a model.
struct Recognised {
  const Naming* naming = nullptr;
  std::string prefix;              // of all names: "module." where DataParallel saved them
  std::vector<NamedArray> arrays;  // the model's under our names, unknown ones under the file's
  std::vector<float> mean, std;    // of a normalisation in the file, both or none
  int64_t skipped = 0;             // arrays that decide nothing
};
// naming: empty for whichever of the model's fits most arrays. Prefixes are found out likewise.
// Only names are looked at, write_weights() compares the shapes. Errors: an array of the model with
// the prefix and without.
Recognised recognise(const SafetensorsFile& file, const Model& model, std::string_view naming);

}  // namespace ringfort
