// The images that a recipe trains on.
#pragma once

#include "adversarial/recipe.h"
#include "engine/data/dataset.h"

namespace ringfort {

// The training images of the recipe's data set, and behind them those that it has pseudo-labels
// for. Errors: as load_dataset's, load_pseudo_labels' and with_pseudo_labels'.
Dataset load_training_data(const Recipe& recipe);

}  // namespace ringfort
