// Recipes in and out: TOML files and command-line flags are read through one table of fields, so a
// new field of `Recipe` is one line there. The same table gives help, ranges, defaults and the
// resolved file of a run folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "adversarial/recipe.h"

namespace ringfort {

// Accepted numbers: [low, high]; without `low` when `low_open`, without `high` when `high_open`.
struct Range {
  double low = 0;
  double high = std::numeric_limits<int32_t>::max();
  bool low_open = false;
  bool high_open = false;
};

struct RecipeField {
  using Member =
      std::variant<std::string Recipe::*, int Recipe::*, int64_t Recipe::*, uint64_t Recipe::*,
                   double Recipe::*, bool Recipe::*, std::vector<double> Recipe::*>;
  std::string section;  // the TOML table that to_toml() puts it in; read_recipe accepts it anywhere
  std::string key;      // in TOML; "--key" on the command line
  Member member;
  std::string help;
  Range range = {};                       // of numbers
  std::vector<std::string> choices = {};  // of text; empty: any text
};

// All fields, in the order in which they are written and shown.
std::span<const RecipeField> recipe_fields();

// A flag of the command line: {"batch-size", "64"}.
struct Override {
  std::string key;
  std::string value;
};

// Reads a TOML recipe of at most 1 MiB, lets the overrides replace what it says, and validates the
// result. Keys are those of the table; TOML sections only group them. Real numbers may be written
// as fractions in quotes: eps = "8/255". Errors name the file and the line, or the flag; an unknown
// key also names the nearest known one.
Recipe read_recipe(const std::filesystem::path& path, std::span<const Override> overrides = {});

// Sets one field from text. Throws Error for an unknown key, a wrong type or a value out of range.
void apply_override(Recipe& recipe, const std::string& key, const std::string& value);

// Checks every range and what fields demand of each other, such as eps <= 1 for Linf.
void validate(const Recipe& recipe);

// A key that is not as by default, and that the recipe's other keys leave without effect.
struct WithoutEffect {
  std::string key, value;  // as toml_value()
  std::string counts_for;  // "method trades"
};
// In the order of the fields. A flag of this kind is an error of read_recipe(); keys of a file are
// not, so that flags can change what they hang on: they are for telling.
std::vector<WithoutEffect> without_effect(const Recipe& recipe);

// Every field with its value, as TOML that read_recipe turns into an equal Recipe.
// keys: those that are written; none: all.
std::string to_toml(const Recipe& recipe, std::span<const std::string_view> keys = {});

// A field's value as it stands in TOML: 8/255 is "8/255" (with the quotes), text is quoted.
std::string toml_value(const Recipe& recipe, const RecipeField& field);

// "8/255", "0.03", "1e-3" as a number; nothing else may follow. `what` names it in the error.
double parse_real(std::string_view what, std::string_view text);

// The shortest text that parse_real turns into exactly this number; grey levels become "8/255".
std::string format_real(double value);

// The same to float's precision, in which attacks compute: 0.1f is "0.1", not 0.10000000149011612.
std::string format_float(double value);

// Throws Error unless 0 <= eps <= 1 for Linf (pixels are in [0, 1]). `what` names it in the error.
void require_eps_in_range(std::string_view what, const std::string& norm, double eps);

}  // namespace ringfort
