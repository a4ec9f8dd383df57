// evaluation.json, what `ringfort evaluate` found, and beside it a safetensors file with the images
// that the report shows. Reading checks everything that later code indexes by.
#pragma once

#include <filesystem>

#include "adversarial/evaluation.h"

namespace ringfort {

inline constexpr const char* kExamplesFile = "examples.safetensors";

// Where the examples of an evaluation lie: "evaluation.json" has "examples.safetensors" beside it,
// any other "NAME.json" has "NAME.examples.safetensors".
std::filesystem::path examples_path(const std::filesystem::path& json_file);

// Throws Error when write_evaluation to `json_file` would fail, or would replace anything but an
// earlier evaluation: to be asked before an attack that takes long.
void require_replaceable(const std::filesystem::path& json_file);

// Writes both files, each atomically, the examples first; no examples, no examples file. The arrays
// are x_nat and x_adv, float32, (examples, H, W, C), pixels in [0, 1].
void write_evaluation(const std::filesystem::path& json_file, const Evaluation& evaluation);

// Throws Error with one sentence, naming the file, when something is missing or does not fit. A
// missing or broken examples file leaves `examples` empty when `why_no_examples` is given, and says
// why there; otherwise it is an error.
Evaluation read_evaluation(const std::filesystem::path& json_file,
                           std::string* why_no_examples = nullptr);

}  // namespace ringfort
