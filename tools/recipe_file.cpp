// From TOML and flags to Recipe: find the field, convert, check. The checks live in
// recipe_check.cpp, numbers as text in real_text.cpp.
#include "tools/recipe_file.h"

// What toml++ asserts some broken files break ("[`"), and where NDEBUG is defined it lets the
// compiler take it for granted. Here it throws; no other file may include toml++, which would have
// it otherwise.
namespace ringfort {
struct BrokenAssertion {};
[[noreturn]] static void break_assertion() { throw BrokenAssertion(); }
}  // namespace ringfort
#undef NDEBUG
#define TOML_ASSERT(condition) ((condition) ? void() : ringfort::break_assertion())
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "engine/files.h"
#include "kernels/error.h"
#include "tools/nearest.h"
#include "tools/recipe_check.h"

namespace ringfort {
namespace {

constexpr uint64_t kMaxRecipeBytes = uint64_t{1} << 20;
constexpr size_t kMaxListLength = 64;

using Origins = std::map<std::string, std::string>;  // key -> "recipe.toml:12: eps" or "--eps"

const RecipeField* find_field(std::string_view key) {
  for (const RecipeField& field : recipe_fields())
    if (field.key == key) return &field;
  return nullptr;
}

std::vector<std::string> known_keys() {
  std::vector<std::string> keys;
  for (const RecipeField& field : recipe_fields()) keys.push_back(field.key);
  return keys;
}

std::vector<std::string> known_sections() {
  std::vector<std::string> sections;
  for (const RecipeField& field : recipe_fields())
    if (sections.empty() || sections.back() != field.section) sections.push_back(field.section);
  return sections;
}

// ---- Values ------------------------------------------------------------------------------------

void set_text(Recipe& recipe, const RecipeField& field, std::string Recipe::*member,
              std::string text, std::string_view what) {
  const auto choice =
      std::find_if(field.choices.begin(), field.choices.end(), [&](const std::string& known) {
        return std::equal(
            known.begin(), known.end(), text.begin(), text.end(),
            [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); });
      });
  if (choice != field.choices.end()) text = *choice;  // "linf" means "Linf"
  recipe.*member = std::move(text);
  check_field(recipe, field, what);
}

// Checks the range first: the member may be narrower than the number.
void set_integer(Recipe& recipe, const RecipeField& field, int64_t value, std::string_view what) {
  check_range(field, static_cast<double>(value), what);
  if (auto* narrow = std::get_if<int Recipe::*>(&field.member))
    recipe.** narrow = static_cast<int>(value);
  else if (auto* wide = std::get_if<int64_t Recipe::*>(&field.member))
    recipe.** wide = value;
  else
    recipe.*std::get<uint64_t Recipe::*>(field.member) = static_cast<uint64_t>(value);
}

bool holds_integer(const RecipeField& field) {
  return std::holds_alternative<int Recipe::*>(field.member) ||
         std::holds_alternative<int64_t Recipe::*>(field.member) ||
         std::holds_alternative<uint64_t Recipe::*>(field.member);
}

int64_t parse_integer(std::string_view what, const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size(),
          "{} expects a whole number, not '{}'", what, text);
  return value;
}

bool parse_bool(std::string_view what, std::string_view text) {
  require(text == "true" || text == "false", "{} expects true or false, not '{}'", what, text);
  return text == "true";
}

std::vector<double> parse_reals(std::string_view what, std::string_view text) {
  std::vector<double> values;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    values.push_back(parse_real(what, text.substr(0, comma)));
    require(comma + 1 != text.size(), "{} ends with a comma; give numbers as in 0.5,0.75", what);
    text.remove_prefix(std::min(comma + 1, text.size()));
    require(values.size() <= kMaxListLength, "{} has more than {} numbers", what, kMaxListLength);
  }
  return values;
}

void set_from_text(Recipe& recipe, const RecipeField& field, const std::string& text,
                   std::string_view what) {
  if (auto* member = std::get_if<std::string Recipe::*>(&field.member))
    return set_text(recipe, field, *member, text, what);
  if (holds_integer(field)) return set_integer(recipe, field, parse_integer(what, text), what);
  if (auto* member = std::get_if<bool Recipe::*>(&field.member))
    recipe.** member = parse_bool(what, text);
  else if (auto* real = std::get_if<double Recipe::*>(&field.member))
    recipe.** real = parse_real(what, text);
  else
    recipe.*std::get<std::vector<double> Recipe::*>(field.member) = parse_reals(what, text);
  check_field(recipe, field, what);
}

// ---- TOML --------------------------------------------------------------------------------------

std::string_view type_in_words(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "text";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a real number";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

double real_from_node(const toml::node& node, std::string_view what) {
  if (const auto* text = node.as_string()) return parse_real(what, text->get());
  const std::optional<double> value = node.is_boolean() ? std::nullopt : node.value<double>();
  require(value.has_value(), "{} expects a number such as 0.1 or \"8/255\", not {}", what,
          type_in_words(node));
  return *value;
}

std::vector<double> reals_from_node(const toml::node& node, std::string_view what) {
  const toml::array* list = node.as_array();
  require(list != nullptr, "{} expects a list such as [0.5, 0.75], not {}", what,
          type_in_words(node));
  require(list->size() <= kMaxListLength, "{} has more than {} numbers", what, kMaxListLength);
  std::vector<double> values;
  for (const toml::node& element : *list) values.push_back(real_from_node(element, what));
  return values;
}

void set_from_node(Recipe& recipe, const RecipeField& field, const toml::node& node,
                   std::string_view what) {
  if (auto* text_member = std::get_if<std::string Recipe::*>(&field.member)) {
    require(node.is_string(), "{} expects text in quotes, not {}", what, type_in_words(node));
    return set_text(recipe, field, *text_member, node.as_string()->get(), what);
  }
  if (holds_integer(field)) {
    require(node.is_integer(), "{} expects a whole number, not {}", what, type_in_words(node));
    return set_integer(recipe, field, node.as_integer()->get(), what);
  }
  if (auto* flag = std::get_if<bool Recipe::*>(&field.member)) {
    require(node.is_boolean(), "{} expects true or false, not {}", what, type_in_words(node));
    recipe.** flag = node.as_boolean()->get();
  } else if (auto* real = std::get_if<double Recipe::*>(&field.member)) {
    recipe.** real = real_from_node(node, what);
  } else {
    recipe.*std::get<std::vector<double> Recipe::*>(field.member) = reals_from_node(node, what);
  }
  check_field(recipe, field, what);
}

std::string place(const std::string& file, const toml::source_region& source) {
  return fmt::format("{}:{}", file, source.begin.line);
}

// Sets what one table says. Only the root holds further tables: the sections.
void read_table(Recipe& recipe, const toml::table& table, const std::string& file, bool root,
                Origins& origins) {
  for (const auto& [toml_key, node] : table) {
    const std::string key(toml_key.str());
    const std::string at = place(file, toml_key.source());
    if (root && node.is_table()) {
      const std::vector<std::string> sections = known_sections();
      require(std::find(sections.begin(), sections.end(), key) != sections.end(),
              "{}: unknown section [{}]; the nearest known one is [{}]", at, key,
              nearest(key, sections));
      read_table(recipe, *node.as_table(), file, false, origins);
      continue;
    }
    const RecipeField* field = find_field(key);
    require(field != nullptr, "{}: unknown key '{}'; the nearest known one is '{}'", at, key,
            nearest(key, known_keys()));
    const std::string what = fmt::format("{}: {}", at, key);
    const auto [earlier, is_new] = origins.emplace(key, what);
    require(is_new, "{} is given twice; remove one of the two", what);
    set_from_node(recipe, *field, node, what);
  }
}

toml::table parse_toml(const std::filesystem::path& path) {
  const std::string text = read_text(path, kMaxRecipeBytes);
  try {
    return toml::parse(text, path.string());
  } catch (const toml::parse_error& error) {
    fail("{}: this is not valid TOML: {}", place(path.string(), error.source()),
         error.description());
  } catch (const BrokenAssertion&) {
    fail("{}: this is not valid TOML: a key or value begins with what none can begin with",
         path.string());
  }
}

std::string toml_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

std::string real_to_toml(double value) {
  const std::string text = format_real(value);
  if (text.find('/') != std::string::npos) return toml_quoted(text);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

}  // namespace

Recipe read_recipe(const std::filesystem::path& path, std::span<const Override> overrides) {
  Recipe recipe;
  Origins origins;
  read_table(recipe, parse_toml(path), path.string(), true, origins);
  for (const Override& flag : overrides) {
    apply_override(recipe, flag.key, flag.value);
    origins[flag.key] = "--" + flag.key;
  }
  check_together(recipe, [&](const std::string& key) {
    const auto origin = origins.find(key);
    return origin == origins.end() ? fmt::format("{}: {}", path.string(), key) : origin->second;
  });
  for (const WithoutEffect& idle : without_effect(recipe))
    require(origins[idle.key] != "--" + idle.key,
            "--{}: {} has no effect here, it is for {}; leave it out", idle.key, idle.value,
            idle.counts_for);
  return recipe;
}

void apply_override(Recipe& recipe, const std::string& key, const std::string& value) {
  const RecipeField* field = find_field(key);
  require(field != nullptr, "unknown option --{}; the nearest known one is --{}", key,
          nearest(key, known_keys()));
  set_from_text(recipe, *field, value, "--" + key);
}

void validate(const Recipe& recipe) {
  for (const RecipeField& field : recipe_fields()) check_field(recipe, field, field.key);
  check_together(recipe, [](const std::string& key) { return key; });
}

std::string toml_value(const Recipe& recipe, const RecipeField& field) {
  if (auto* text = std::get_if<std::string Recipe::*>(&field.member))
    return toml_quoted(recipe.**text);
  if (auto* flag = std::get_if<bool Recipe::*>(&field.member))
    return recipe.**flag ? "true" : "false";
  if (auto* real = std::get_if<double Recipe::*>(&field.member)) return real_to_toml(recipe.**real);
  if (auto* list = std::get_if<std::vector<double> Recipe::*>(&field.member)) {
    std::string out = "[";
    for (const double value : recipe.**list)
      out += (out.size() > 1 ? ", " : "") + real_to_toml(value);
    return out + "]";
  }
  if (auto* narrow = std::get_if<int Recipe::*>(&field.member))
    return fmt::format("{}", recipe.**narrow);
  if (auto* wide = std::get_if<int64_t Recipe::*>(&field.member))
    return fmt::format("{}", recipe.**wide);
  return fmt::format("{}", recipe.*std::get<uint64_t Recipe::*>(field.member));
}

std::string to_toml(const Recipe& recipe, std::span<const std::string_view> keys) {
  std::string out, section;
  for (const RecipeField& field : recipe_fields()) {
    if (!keys.empty() && std::find(keys.begin(), keys.end(), field.key) == keys.end()) continue;
    if (field.section != section) {
      out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", field.section);
      section = field.section;
    }
    out += fmt::format("{} = {}\n", field.key, toml_value(recipe, field));
  }
  return out;
}

}  // namespace ringfort
