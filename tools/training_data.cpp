#include "tools/training_data.h"

#include "engine/data/pseudo_labels.h"

namespace ringfort {

Dataset load_training_data(const Recipe& recipe) {
  Dataset labelled =
      load_dataset(recipe.dataset, recipe.data_dir, Split::kTrain, recipe.image_size);
  if (recipe.pseudo_labels.empty()) return labelled;
  const PseudoLabels made = load_pseudo_labels(recipe.pseudo_labels);
  return with_pseudo_labels(
      std::move(labelled),
      load_dataset(recipe.pseudo_dataset, recipe.pseudo_data_dir, Split::kTrain, recipe.image_size),
      made, recipe.pseudo_confidence);
}

}  // namespace ringfort
