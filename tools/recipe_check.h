// What a recipe's values must fulfil, each alone and together. Internal to recipe_file: `what` is
// the beginning of the sentence and says where the value was written.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "adversarial/recipe.h"
#include "tools/recipe_file.h"

namespace ringfort {

void check_range(const RecipeField& field, double value, std::string_view what);
void check_field(const Recipe& recipe, const RecipeField& field, std::string_view what);

// `where(key)` gives the beginning of the sentence for a field.
void check_together(const Recipe& recipe,
                    const std::function<std::string(const std::string& key)>& where);

}  // namespace ringfort
